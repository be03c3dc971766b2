import copy
import gc
import weakref

import pytest
import torch
from conftest import CLASSES, NOISE, SAGAN, TEACHER
from gans import (
    DISCRIMINATOR,
    HINGE,
    R1,
    Calls,
    StandInForDDP,
    assert_same_step,
    attention_distance,
    batch,
    block_outputs,
    build_gan,
    optimizers,
    pruning_by_hand,
    step_by_hand,
    train_step,
    trained_gan,
)
from mmagic.registry import MODELS as MMAGIC
from mmengine import MessageHub
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.errors import PPCDError

HINGE_AND_R1 = dict(gan_loss=HINGE, disc_auxiliary_loss=R1)


def ppcd_losses(cd_weight=1.0, pp_weight=0.1):
    """L_CD and L_PP by hand: attention at 8 px after self-attention (block 1)
    and at 16 px (block 2); weights, sum over resolutions, mean over images."""

    def losses(hand, noise, labels, teacher_labels):
        students, fake = block_outputs(
            hand.generator, lambda: hand.generator(noise, label=labels)
        )
        teachers, _ = block_outputs(
            hand.teacher, lambda: hand.teacher(noise, label=teacher_labels)
        )
        return fake, dict(
            loss_cd=cd_weight
            * sum(
                attention_distance(*pair).mean()
                for pair in zip(students, teachers)
            ),
            loss_pp=pp_weight
            * pruning_by_hand(
                [mask for _, mask in named_masks(hand.generator)]
            ),
        )

    return losses


def test_a_step_with_every_loss_by_hand():
    model = trained_gan(
        loss_config=HINGE_AND_R1,
        distillation_loss=dict(
            type='AttentionDistillationLoss', loss_weight=2.5
        ),
    )
    step = step_by_hand(
        model, ppcd_losses(cd_weight=2.5), batch((0, 1, 3, 4, 4, 2))
    )
    assert_same_step(step)


def test_a_class_irrelevant_step_by_hand_with_the_default_losses():
    model = trained_gan(class_aware=False)
    step = step_by_hand(model, ppcd_losses(), batch((0, 1, 3, 4, 4, 2)))
    assert_same_step(step)


def test_a_step_without_teacher_and_without_pruning_by_hand():
    model = trained_gan(
        teacher=None,
        pruning_loss=None,
        generator=dict(SAGAN, type='SAGANGenerator'),
    )

    def losses(hand, noise, labels, teacher_labels):
        return hand.generator(noise, label=labels), dict()

    assert_same_step(step_by_hand(model, losses, batch()))


def test_losses_of_another_adversarial_game_by_hand():
    """With cross entropy, unlike the hinge, the generator's loss as well
    depends on what it is told the target is."""
    model = trained_gan(
        loss_config=dict(
            gan_loss=dict(type='GANLoss', gan_type='vanilla', loss_weight=0.7)
        )
    )
    scores = []
    model.discriminator.register_forward_hook(
        lambda net, args, out: scores.append(out.detach())
    )
    logs = train_step(model)
    fake, real, fooled = scores
    for name, expected in (
        ('loss_disc_fake', torch.log(1 + torch.exp(fake)).mean()),
        ('loss_disc_real', torch.log(1 + torch.exp(-real)).mean()),
        ('loss_adv', 0.7 * torch.log(1 + torch.exp(-fooled)).mean()),
    ):
        assert float(logs[name]) == pytest.approx(float(expected), rel=1e-9)


def test_a_wrapped_generator_takes_the_same_step():
    """As under MMSeparateDistributedDataParallel."""
    plain, wrapped = trained_gan(), trained_gan()
    wrapped.generator = StandInForDDP(wrapped.generator)
    data = batch()
    logs = []
    for model in (plain, wrapped):
        torch.manual_seed(5)
        logs.append(train_step(model, copy.deepcopy(data), lr=0.1))
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        assert float(logs[1][name]) == pytest.approx(float(value), rel=1e-12)
    moved = dict(wrapped.generator.module.named_parameters())
    for name, parameter in plain.generator.named_parameters():
        assert torch.equal(parameter, moved[name])


def test_order_of_procedure_1():
    """Discriminator first, then student and teacher, then one update of the
    generator."""
    model = build_gan()
    events = []
    for name, network in (
        ('student', model.generator),
        ('teacher', model.teacher.generator),
    ):
        network.register_forward_pre_hook(
            lambda *_, name=name: events.append(name)
        )
    wrappers = optimizers(model)
    for name in ('generator', 'discriminator'):
        wrappers[name].optimizer.register_step_pre_hook(
            lambda *_, name=name: events.append(f'update {name}')
        )
    MessageHub.get_current_instance().update_info('iter', 0)
    model.train_step(batch(), wrappers)
    assert events == [
        'student',
        'update discriminator',
        'student',
        'teacher',
        'update generator',
    ]


def test_each_update_has_gradients_of_its_own_network_only():
    model = build_gan(loss_config=HINGE_AND_R1)
    networks = dict(
        generator=model.generator,
        discriminator=model.discriminator,
        teacher=model.teacher.generator,
    )
    largest = {}

    def look(moment):
        largest[moment] = {
            name: max(
                (
                    float(p.grad.abs().max())
                    for p in network.parameters()
                    if p.grad is not None
                ),
                default=0.0,
            )
            for name, network in networks.items()
        }

    wrappers = optimizers(model)
    for name in ('generator', 'discriminator'):
        wrappers[name].optimizer.register_step_pre_hook(
            lambda *_, name=name: look(name)
        )
    MessageHub.get_current_instance().update_info('iter', 0)
    model.train().train_step(batch(), wrappers)
    look('after the step')
    assert largest['discriminator'].pop('discriminator') > 1e-2
    assert largest['generator'].pop('generator') > 1e-2
    assert largest == {
        'discriminator': dict(generator=0.0, teacher=0.0),
        'generator': dict(discriminator=0.0, teacher=0.0),
        'after the step': dict(generator=0.0, discriminator=0.0, teacher=0.0),
    }


def test_nothing_in_the_teacher_changes_while_the_student_trains():
    model = build_gan(
        teacher=dict(
            type='BigGANTeacher', generator=dict(TEACHER, sn_style='torch')
        )
    )
    before = copy.deepcopy(model.teacher.generator.state_dict())
    student = copy.deepcopy(model.generator.state_dict())
    for iteration in range(2):
        train_step(model, iteration=iteration, lr=0.1)
    for key, value in model.teacher.generator.state_dict().items():
        assert torch.equal(value, before[key]), key
    after = model.generator.state_dict()
    assert (
        after['noise2feat.weight_orig'] - student['noise2feat.weight_orig']
    ).abs().max() > 1e-3


def test_student_teacher_and_discriminator_see_the_labels_of_the_batch():
    model = build_gan(loss_config=HINGE_AND_R1)
    calls = [
        Calls(network)
        for network in (
            model.generator,
            model.teacher.generator,
            model.discriminator,
        )
    ]
    train_step(model, batch((4, 0, 3, 3)))
    # the discriminator: fake, real, the penalty, and the generator's step
    assert [len(of_one) for of_one in calls] == [2, 1, 4]
    for of_one in calls:
        for _, labels in of_one:
            assert labels.tolist() == [4, 0, 3, 3]


def test_noise_is_shared_with_the_teacher_and_fresh_for_every_step():
    model = build_gan()
    students, teachers = Calls(model.generator), Calls(model.teacher.generator)
    for iteration in range(2):
        train_step(model, batch((0, 1) * 32), iteration)
    noises = [noise for noise, _ in students]
    assert torch.equal(teachers[0][0], noises[1])
    assert torch.equal(teachers[1][0], noises[3])
    for noise in noises:
        assert noise.shape == (64, NOISE)
    # standard normal and independent: also of each other and of the steps
    every = torch.cat(noises, 1).double()
    assert every.mean().abs() < 0.1 and abs(every.std() - 1) < 0.1
    related = torch.corrcoef(every.t()) - torch.eye(4 * NOISE)
    assert related.abs().max() < 0.6
    assert len(torch.cat(noises).unique(dim=0)) == 4 * 64


def test_class_irrelevant_teacher_sees_every_other_class_alike():
    model = build_gan(class_aware=False, pruning_loss=None)
    students, teachers = Calls(model.generator), Calls(model.teacher.generator)
    labels = torch.arange(CLASSES).repeat(200)
    with torch.no_grad():
        model.distill(torch.randn(len(labels), NOISE), labels)
    assert torch.equal(students[0][1], labels)
    counts = torch.zeros(CLASSES, CLASSES)
    for own, other in zip(labels.tolist(), teachers[0][1].tolist()):
        counts[own, other] += 1
    assert counts.diagonal().tolist() == [0] * CLASSES
    others = counts[~torch.eye(CLASSES, dtype=torch.bool)]
    assert len(others) == 20 and others.min() > 20 and others.max() < 85


def test_class_irrelevant_discriminator_still_judges_by_the_true_class():
    model = build_gan(class_aware=False)
    calls = Calls(model.discriminator)
    train_step(model, batch((4, 0, 3, 3)))
    assert [labels.tolist() for _, labels in calls] == [[4, 0, 3, 3]] * 3


def test_layers_to_distil_can_be_chosen():
    model = trained_gan(
        distill_layers='conv_blocks.2',
        teacher=dict(
            type='BigGANTeacher', generator=TEACHER, layers='conv_blocks.2'
        ),
    )

    def losses(hand, noise, labels, teacher_labels):
        student, fake = block_outputs(
            hand.generator, lambda: hand.generator(noise, label=labels), '2'
        )
        teacher, _ = block_outputs(
            hand.teacher, lambda: hand.teacher(noise, label=labels), '2'
        )
        return fake, dict(
            loss_cd=attention_distance(student[0], teacher[0]).mean(),
            loss_pp=0.1
            * pruning_by_hand(
                [mask for _, mask in named_masks(hand.generator)]
            ),
        )

    assert_same_step(step_by_hand(model, losses, batch()))


def test_resolutions_that_only_the_teacher_has_are_left_out():
    """BigGAN-deep has features of its first size, which SAGAN has not."""
    chosen = dict(distill_layers='conv_blocks.2')
    one, both = (
        train_step(
            build_gan(
                **chosen,
                teacher=dict(
                    type='GeneratorTeacher', generator=TEACHER, layers=layers
                ),
            )
        )
        for layers in ('conv_blocks.2', 'conv_blocks.*')
    )
    assert float(one['loss_cd']) == float(both['loss_cd']) > 0


def test_features_without_a_common_resolution_are_refused():
    model = build_gan(
        distill_layers='conv_blocks.2',
        teacher=dict(
            type='GeneratorTeacher', generator=TEACHER, layers='conv_blocks.0'
        ),
    )
    with pytest.raises(PPCDError, match=r'\[16\] pixels .* of \[8\], none'):
        train_step(model)


def test_losses_are_logged_by_the_names_of_their_configs():
    logs = train_step(
        build_gan(
            pruning_loss=dict(
                type='MaskL1Loss', loss_weight=3.0, loss_name='loss_masks'
            ),
            distillation_loss=dict(
                type='AttentionDistillationLoss',
                loss_weight=0.0,
                loss_name='loss_attention',
            ),
        )
    )
    assert float(logs['loss_masks']) == 3.0
    assert float(logs['loss_attention']) == 0.0
    assert 'loss_pp' not in logs and 'loss_cd' not in logs


def test_teacher_is_in_no_checkpoint_and_no_optimizer():
    model = build_gan()
    assert not any('teacher' in key for key in model.state_dict())
    held = {id(p) for p in model.parameters()}
    teacher = list(model.teacher.generator.parameters())
    assert teacher and not any(id(p) in held for p in teacher)


def test_nothing_is_kept_between_iterations():
    model = build_gan()
    features, networks = [], (model.generator, model.teacher.generator)
    for network in networks:
        network.conv_blocks[2].register_forward_hook(
            lambda block, args, out: features.append(weakref.ref(out))
        )
    hooks = [len(m._forward_hooks) for n in networks for m in n.modules()]
    train_step(model)
    gc.collect()
    assert len(features) == 3
    assert all(feature() is None for feature in features)
    assert hooks == [
        len(m._forward_hooks) for n in networks for m in n.modules()
    ]


def test_real_images_are_judged_with_their_own_label_only():
    """MMagic 1.2 stacks labels as (n, 1), with which the projection of the
    discriminator would broadcast to (n, n) scores."""
    model = build_gan()
    shapes = []
    model.discriminator.register_forward_hook(
        lambda module, args, out: shapes.append(tuple(out.shape))
    )
    train_step(model)
    assert shapes == [(4, 1)] * 3


def test_r1_penalty_by_finite_differences():
    model = trained_gan(loss_config=HINGE_AND_R1)
    data = batch((2, 2))
    judge = copy.deepcopy(model.discriminator)
    logs = train_step(model, data, lr=0.0)
    images = torch.stack(data['inputs']).double() / 127.5 - 1
    label = torch.tensor([2, 2])
    squares = 0.0
    for index in range(images[0].numel()):
        step = torch.zeros_like(images).flatten(1)
        step[:, index] = 1e-6
        step = step.view_as(images)
        with torch.no_grad():
            slope = (
                judge(images + step, label) - judge(images - step, label)
            ) / 2e-6
        squares += float(slope.square().mean())
    assert squares > 1e-3
    assert float(logs['loss_r1_gp']) == pytest.approx(0.3 * squares, rel=1e-5)


def test_penalties_are_handed_the_loss_scaler_of_mixed_precision():
    """A scale must be taken off again before the slope is squared."""

    class Scaler:
        scaled = 0

        def scale(self, value):
            self.scaled += 1
            return 1024 * value

        def get_scale(self):
            return 1024

    penalty = dict(
        R1, data_info=dict(R1['data_info'], loss_scaler='loss_scaler')
    )
    plain, data = [], batch()
    scaler = Scaler()
    for given in (None, scaler):
        model = trained_gan(
            loss_config=dict(gan_loss=HINGE, disc_auxiliary_loss=penalty)
        )
        wrappers = optimizers(model)
        wrappers['discriminator'].loss_scaler = given
        MessageHub.get_current_instance().update_info('iter', 0)
        plain.append(model.train_step(copy.deepcopy(data), wrappers))
    assert scaler.scaled == 1
    assert float(plain[0]['loss_r1_gp']) == pytest.approx(
        float(plain[1]['loss_r1_gp']), rel=1e-12
    )


@pytest.mark.parametrize(
    'labels, extremes', [((0, CLASSES), '0 to 5'), ((-1, 0), '-1 to 0')]
)
def test_label_out_of_range(labels, extremes):
    with pytest.raises(
        ValueError, match=f'{extremes}.*5 classes.*0 to 4.*num_classes'
    ):
        train_step(build_gan(), batch(labels))


def test_data_without_labels_train_nothing():
    data = batch()
    for sample in data['data_samples']:
        del sample.gt_label
    with pytest.raises(ValueError, match='no labels.*5 classes.*gt_label'):
        train_step(build_gan(), data)


def test_without_labels_images_of_any_class_are_sampled():
    """As MMagic's metrics ask for them."""
    model = build_gan()
    calls = Calls(model.generator)
    model.eval()(dict(num_batches=200, sample_model='orig'))
    assert calls[0][1].unique().tolist() == list(range(CLASSES))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(num_classes=7), 'number of classes.*5.*7'),
        (dict(output_scale=32), 'resolution.*16.*32'),
        (dict(noise_size=15), 'noise size.*12.*15'),
    ],
)
def test_student_and_teacher_must_agree(change, message):
    teacher = dict(type='BigGANTeacher', generator={**TEACHER, **change})
    with pytest.raises(ValueError, match=message):
        build_gan(teacher=teacher)


def test_unknown_layers_are_found_when_the_model_is_built():
    with pytest.raises(
        ValueError, match='"blocks.9" in SNGAN|"blocks.9" in PPRes'
    ):
        build_gan(distill_layers='blocks.9')


def test_gan_is_found_from_a_config_of_mmagic():
    """Foreign configs, whose default scope is mmagic, name it with ours."""
    with DefaultScope.overwrite_default_scope('mmagic'):
        model = MMAGIC.build(
            dict(
                type='ppcd_mmagic.PPCDGAN',
                generator=dict(SAGAN, type='ppcd_mmagic.PPResSAGANGenerator'),
                discriminator=DISCRIMINATOR,
                data_preprocessor=dict(type='DataPreprocessor'),
            )
        )
    assert len(dict(named_masks(model.generator))) == 6


def test_the_log_says_once_what_is_compared(capsys):
    model = build_gan()
    MMLogger.get_instance('test_what_is_compared', log_level='INFO')
    capsys.readouterr()
    for iteration in range(2):
        train_step(model, iteration=iteration)
    out = capsys.readouterr()
    assert (out.out + out.err).count('compares features of [8, 16]') == 1
