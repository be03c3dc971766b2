import copy
from unittest.mock import patch

import pytest
import torch
from conftest import CLASSES, NOISE, SAGAN, TEACHER
from mmagic.registry import MODELS as MMAGIC
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DefaultScope

from ppcd_mmagic.masks import named_masks
from ppcd_mmagic.models import FeatureTap
from ppcd_mmagic.registry import MODELS

DISCRIMINATOR = dict(
    type='ProjDiscriminator',
    input_scale=16,
    num_classes=CLASSES,
    base_channels=4,
    channels_cfg=[2, 2],
    downsample_cfg=[True, False],
    with_spectral_norm=False)


def build_gan(**changes):
    torch.manual_seed(0)
    return MODELS.build({
        **copy.deepcopy(
            dict(
                type='PPCDGAN',
                num_classes=CLASSES,
                noise_size=NOISE,
                data_preprocessor=dict(type='DataPreprocessor'),
                generator=SAGAN,
                discriminator=DISCRIMINATOR,
                teacher=dict(type='BigGANTeacher', generator=TEACHER),
                pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
                ema_config=dict(type='ExponentialMovingAverage'))),
        **changes
    })


def batch(labels=(0, 1, 2, 3)):
    samples = []
    for label in labels:
        sample = DataSample(gt_img=torch.randint(0, 255, (3, 16, 16)))
        sample.set_gt_label(label)
        samples.append(sample)
    images = [sample.gt_img for sample in samples]
    return dict(inputs=images, data_samples=samples)


def optimizers(model, lr=1e-3):
    return OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), lr=lr))
            for name in ('generator', 'discriminator')
        })


def train_step(model, data=None, **kwargs):
    MessageHub.get_current_instance().update_info('iter', 0)
    model.train()
    return model.train_step(data or batch(), optimizers(model, **kwargs))


def test_every_loss_is_logged():
    logs = train_step(build_gan())
    assert {'loss_disc_fake', 'loss_disc_real', 'loss_adv', 'loss_pp',
            'loss_cd'} <= set(logs)
    assert float(logs['loss_pp']) == pytest.approx(0.1)


def test_order_of_procedure_1():
    """Discriminator first, then student and teacher on the same noise and the
    classes of the batch, then one update of the generator."""
    model = build_gan()
    events, seen = [], {}
    student, teacher = model.generator.forward, model.teacher.generator.forward

    def run_student(noise, **kwargs):
        events.append('student')
        seen['student'] = (noise, kwargs['label'])
        return student(noise, **kwargs)

    def run_teacher(noise, **kwargs):
        events.append('teacher')
        seen['teacher'] = (noise, kwargs['label'])
        return teacher(noise, **kwargs)

    wrappers = optimizers(model)
    for name in ('generator', 'discriminator'):
        update = wrappers[name].update_params
        wrappers[name].update_params = (
            lambda loss, name=name, update=update:
            (events.append(f'update {name}'), update(loss)))
    MessageHub.get_current_instance().update_info('iter', 0)
    with patch.object(model.generator, 'forward', run_student), \
            patch.object(model.teacher.generator, 'forward', run_teacher):
        model.train_step(batch((4, 0, 3, 3)), wrappers)
    assert events == [
        'student', 'update discriminator', 'student', 'teacher',
        'update generator'
    ]
    assert torch.equal(seen['student'][0], seen['teacher'][0])
    for _, labels in seen.values():
        assert labels.tolist() == [4, 0, 3, 3]


def test_class_irrelevant_teacher_never_sees_the_class():
    model = build_gan(class_aware=False)
    labels = torch.arange(CLASSES).repeat(400)
    others = model._teacher_labels(labels)
    assert (others != labels).all()
    assert others.min() == 0 and others.max() == CLASSES - 1
    counts = torch.bincount(labels * CLASSES + others,
                            minlength=CLASSES**2).view(CLASSES, CLASSES)
    assert (counts + 1000 * torch.eye(CLASSES).long() > 60).all(), \
        'every other class is as likely'


def test_distillation_alone_moves_the_student_and_not_the_teacher():
    model = build_gan(pruning_loss=None)
    teacher = copy.deepcopy(model.teacher.generator.state_dict())
    noise, labels = torch.randn(4, NOISE), torch.tensor([0, 1, 2, 3])
    model.train()
    with FeatureTap(model.generator, 'conv_blocks.*') as tap:
        model.generator(noise, label=labels)
    loss = model.distillation_loss(tap.by_resolution(),
                                   model.teacher(noise, labels))
    loss.backward()
    gradients = {
        name: p.grad
        for name, p in model.generator.named_parameters()
        if 'to_rgb' not in name
    }
    reached = [n for n, g in gradients.items() if g is not None and g.any()]
    assert any('conv_blocks.0.conv_1' in name for name in reached)
    # masks of conv_1 learn through the gates of their readers
    assert 'conv_blocks.0.conv_1.conv.mask.weight' in reached
    assert all(p.grad is None for p in model.teacher.generator.parameters())
    for key, value in model.teacher.generator.state_dict().items():
        assert torch.equal(value, teacher[key])


def test_teacher_is_in_no_checkpoint_and_no_optimizer():
    model = build_gan()
    assert not any('teacher' in key for key in model.state_dict())
    held = {id(p) for p in model.parameters()}
    assert not any(
        id(p) in held for p in model.teacher.generator.parameters())


def test_nothing_is_kept_between_iterations():
    model = build_gan()
    train_step(model)
    hooks = sum(len(m._forward_hooks) for m in model.generator.modules())
    train_step(model)
    assert hooks == sum(
        len(m._forward_hooks) for m in model.generator.modules())
    assert model.teacher._tap.features == {}


def test_real_images_are_judged_with_their_own_label_only():
    """MMagic 1.2 stacks labels as (n, 1), with which the projection of the
    discriminator would broadcast to (n, n) scores."""
    model = build_gan()
    shapes = []
    model.discriminator.register_forward_hook(
        lambda module, args, out: shapes.append(tuple(out.shape)))
    train_step(model)
    assert shapes == [(4, 1)] * 3


def test_r1_penalty_sees_the_label():
    """Against a gradient taken by finite differences."""
    loss_config = dict(
        gan_loss=dict(type='GANLoss', gan_type='hinge'),
        disc_auxiliary_loss=dict(
            type='R1GradientPenaltyComps',
            loss_weight=1.,
            norm_mode='HWC',
            data_info=dict(discriminator='disc', real_data='real_imgs')))
    model = build_gan(loss_config=loss_config)
    data = batch((2, 2))
    judge = copy.deepcopy(model.discriminator).double()
    logs = train_step(model, data, lr=0.)
    images = torch.stack(data['inputs']).double() / 127.5 - 1
    label = torch.tensor([2, 2])
    squares = 0.
    for index in range(images[0].numel()):
        step = torch.zeros_like(images).flatten(1)
        step[:, index] = 1e-5
        step = step.view_as(images)
        with torch.no_grad():
            slope = (judge(images + step, label) -
                     judge(images - step, label)) / 2e-5
        squares += float(slope.square().mean())
    assert float(logs['loss_r1_gp']) == pytest.approx(squares, rel=1e-2)


@pytest.mark.parametrize('labels', [(0, CLASSES), (-1, 0)])
def test_label_out_of_range(labels):
    with pytest.raises(ValueError, match='5 classes.*num_classes'):
        train_step(build_gan(), batch(labels))


@pytest.mark.parametrize(
    'change, message',
    [(dict(num_classes=7), 'number of classes.*5.*7'),
     (dict(output_scale=32), 'resolution.*16.*32'),
     (dict(noise_size=15), 'noise size.*12.*15')])
def test_student_and_teacher_must_agree(change, message):
    teacher = dict(type='BigGANTeacher', generator={**TEACHER, **change})
    with pytest.raises(ValueError, match=message):
        build_gan(teacher=teacher)


def test_unknown_layers_are_found_when_the_model_is_built():
    with pytest.raises(ValueError, match='"blocks.9" in SNGAN|"blocks.9" in '
                       'PPRes'):
        build_gan(distill_layers='blocks.9')


def test_trains_without_teacher_and_without_pruning():
    logs = train_step(
        build_gan(
            teacher=None,
            pruning_loss=None,
            generator=dict(SAGAN, type='SAGANGenerator')))
    assert 'loss_cd' not in logs and 'loss_pp' not in logs


def test_gan_is_found_from_a_config_of_mmagic():
    """Foreign configs, whose default scope is mmagic, name it with ours."""
    with DefaultScope.overwrite_default_scope('mmagic'):
        model = MMAGIC.build(
            dict(
                type='ppcd_mmagic.PPCDGAN',
                generator=dict(SAGAN, type='ppcd_mmagic.PPResSAGANGenerator'),
                discriminator=DISCRIMINATOR,
                data_preprocessor=dict(type='DataPreprocessor')))
    assert len(dict(named_masks(model.generator))) == 6
