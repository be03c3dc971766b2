"""Several distillation losses in one model, and images of the teacher that
count as real."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from conftest import NOISE, SAGAN, config_path
from gans import (
    DISCRIMINATOR,
    HINGE,
    R1,
    Calls,
    StandInForDDP,
    assert_same_step,
    batch,
    block_outputs,
    build_gan,
    pictures,
    step_by_hand,
    train_step,
    trained_gan,
)
from mmengine.config import Config
from test_ppcd_gan import ppcd_losses
from tool_calls import call_tool, load_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.registry import MODELS

DENSE = dict(SAGAN, type='SAGANGenerator')
PIXEL = dict(type='PixelDistillationLoss')
FEATURE = dict(type='DiscriminatorFeatureLoss')
BLACK_BOX = dict(
    generator=DENSE,
    pruning_loss=None,
    distillation_loss=[PIXEL, FEATURE],
    teacher_as_real=1.0,
)


def teachers_images(hand, data, noise, labels):
    """The discriminator's real images: same noise and class as the fake."""
    with torch.no_grad():
        return hand.teacher(noise, label=labels)


def copied(hand, fake, target, labels, pixel=1.0, feature=1.0, layers='01'):
    """Mean distance of pixels, and of the discriminator's features, which are
    summed over its blocks."""
    ours, theirs = (
        block_outputs(
            hand.discriminator,
            lambda images=images: hand.discriminator(images, label=labels),
            layers,
        )[0]
        for images in (fake, target)
    )
    return dict(
        loss_pixel=pixel * (fake - target).abs().sum() / fake.numel(),
        loss_feature=feature
        * sum((a - b).abs().sum() / a.numel() for a, b in zip(ours, theirs)),
    )


def copying_losses(**weights):
    def losses(hand, noise, labels, teacher_labels):
        fake = hand.generator(noise, label=labels)
        target = teachers_images(hand, None, noise, teacher_labels)
        return fake, copied(hand, fake, target, labels, **weights)

    return losses


def test_a_step_of_tiny_gan_by_hand():
    model = trained_gan(
        **{
            **BLACK_BOX,
            'distillation_loss': [
                dict(PIXEL, loss_weight=3.0),
                dict(FEATURE, loss_weight=0.7),
            ],
        },
        loss_config=dict(gan_loss=HINGE, disc_auxiliary_loss=R1),
    )
    assert_same_step(
        step_by_hand(
            model,
            copying_losses(pixel=3.0, feature=0.7),
            batch((0, 1, 3, 4, 4, 2)),
            real=teachers_images,
        )
    )


def test_a_class_irrelevant_step_of_tiny_gan_by_hand():
    """Only what the student copies is of another class; what the
    discriminator takes for real stays of its own."""
    model = trained_gan(
        **{
            **BLACK_BOX,
            'distillation_loss': [PIXEL, dict(FEATURE, layers=['*blocks.1'])],
        },
        class_aware=False,
    )
    assert_same_step(
        step_by_hand(
            model,
            copying_losses(layers='1'),
            batch((0, 1, 3, 4, 4, 2)),
            real=teachers_images,
        )
    )


def test_a_step_with_attention_pixels_features_and_masks_by_hand():
    """All at once, of one pass of the student and one of the teacher; of five
    real images the teacher draws two."""
    model = trained_gan(
        distillation_loss=[
            dict(type='AttentionDistillationLoss', loss_weight=2.5),
            PIXEL,
            FEATURE,
        ],
        teacher_as_real=0.4,
    )
    students, teachers = (
        Calls(network) for network in (model.generator, model.teacher.generator)
    )

    def losses(hand, noise, labels, teacher_labels):
        fake, found = ppcd_losses(cd_weight=2.5)(
            hand, noise, labels, teacher_labels
        )
        target = teachers_images(hand, None, noise, teacher_labels)
        return fake, {**found, **copied(hand, fake, target, labels)}

    def real(hand, data, noise, labels):
        drawn = teachers_images(hand, data, noise[:2], labels[:2])
        return torch.cat([drawn, pictures(hand, data, noise, labels)[2:]])

    assert_same_step(
        step_by_hand(model, losses, batch((0, 1, 3, 4, 2)), real=real)
    )
    assert len(students) == len(teachers) == 2


@pytest.mark.parametrize('wrap', [lambda network: network, StandInForDDP])
def test_features_are_of_the_images_as_they_are(wrap):
    """Not of maps that an augmentation draws for each: a student that draws
    the target has nothing left to learn."""
    model = build_gan(
        **BLACK_BOX,
        discriminator=dict(
            type='AugmentedDiscriminator', discriminator=DISCRIMINATOR
        ),
    )
    inner = model.discriminator.discriminator
    model.discriminator = wrap(model.discriminator)
    model.generator.eval()  # draws the same again
    noise, labels = torch.randn(4, NOISE), torch.tensor([0, 1, 4, 2])
    images, losses = model.distill(noise, labels)
    target = model.teacher.images(noise, labels)
    ours, theirs = (
        block_outputs(inner, lambda x=x: inner(x, label=labels), '01')[0]
        for x in (images, target)
    )
    expected = sum((a - b).abs().mean() for a, b in zip(ours, theirs))
    torch.testing.assert_close(losses['loss_feature'], expected)
    model.teacher.draw = lambda noise, label: (images.detach(), {})
    _, losses = model.distill(noise, labels)
    assert losses['loss_feature'] == losses['loss_pixel'] == 0


@pytest.mark.parametrize(
    'kind, wrap',
    [
        ('PixelDistillationLoss', lambda image: image),
        ('DiscriminatorFeatureLoss', lambda image: dict(layer=image)),
    ],
)
def test_gradients_reach_the_student_and_not_the_teacher(kind, wrap):
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = MODELS.build(dict(type=kind, loss_weight=0.5))
    loss(wrap(student), wrap(teacher)).backward()
    torch.testing.assert_close(
        student.grad, 0.5 * (student - teacher).sign() / student.numel()
    )
    assert teacher.grad is None


def test_tiny_gan_s_discriminator_never_sees_the_data():
    model = build_gan(**BLACK_BOX)
    students, teachers, judged = (
        Calls(network)
        for network in (
            model.generator,
            model.teacher.generator,
            model.discriminator,
        )
    )
    train_step(model, batch((4, 0, 3, 3)))
    # its own step: fake and real; the generator's: features of fake and of
    # target, and the score of fake
    assert [len(calls) for calls in (students, teachers, judged)] == [2, 2, 5]
    for (noise, labels), (same_noise, same_labels) in zip(students, teachers):
        assert torch.equal(noise, same_noise)
        assert labels.tolist() == same_labels.tolist() == [4, 0, 3, 3]
    for images, labels in judged:
        assert labels.tolist() == [4, 0, 3, 3]
    for noise, labels in list(teachers):
        target = model.teacher.generator(noise, label=labels)
        assert sum(torch.equal(images, target) for images, _ in judged) == 1


def test_class_irrelevant_targets_are_of_another_class_and_reals_are_not():
    model = build_gan(**BLACK_BOX, class_aware=False)
    teachers, judged = (
        Calls(network)
        for network in (model.teacher.generator, model.discriminator)
    )
    labels = torch.arange(5).repeat(8)
    train_step(model, batch(labels.tolist()))
    assert torch.equal(teachers[0][1], labels)
    assert (teachers[1][1] != labels).all()
    assert all(torch.equal(seen, labels) for _, seen in judged)


def test_a_class_irrelevant_student_copies_one_image_in_every_way():
    """Not pixels of one class and features of another."""
    model = build_gan(
        distillation_loss=[
            dict(type='AttentionDistillationLoss'),
            PIXEL,
            FEATURE,
        ],
        class_aware=False,
    )
    teachers = Calls(model.teacher.generator)
    train_step(model)
    assert len(teachers) == 1


@pytest.mark.parametrize(
    'part, drawn', [(0.0, 0), (0.5, 2), (0.8, 3), (1.0, 4)]
)
def test_the_teacher_draws_its_part_of_the_real_images(part, drawn):
    model = build_gan(teacher_as_real=part)
    judged = Calls(model.discriminator)
    data = batch((4, 0, 3, 3))
    given = torch.stack(data['inputs']).float() / 127.5 - 1
    train_step(model, data)
    real = judged[1][0]
    assert [torch.allclose(a, b, atol=1e-6) for a, b in zip(real, given)] == [
        index >= drawn for index in range(4)
    ]


@pytest.mark.parametrize('part', [-0.1, 1.5, float('nan')])
def test_a_part_that_is_none_is_refused(part):
    with pytest.raises(ValueError, match='teacher_as_real=.* in .0, 1.'):
        build_gan(teacher_as_real=part)


def test_a_part_of_less_than_one_image_is_refused():
    model = build_gan(teacher_as_real=0.1)
    with pytest.raises(ValueError, match='0.1 of a batch of 4 is not one'):
        train_step(model, batch((4, 0, 3, 3)))


def test_unknown_layers_of_the_discriminator_are_found_when_it_is_built():
    with pytest.raises(ValueError, match='"heads.*ProjDiscriminator'):
        build_gan(distillation_loss=dict(FEATURE, layers='heads.*'))


def test_losses_of_one_name_are_refused():
    """One would be lost, as they are kept by their names."""
    with pytest.raises(ValueError, match='called loss_pixel, .*`loss_name`'):
        build_gan(distillation_loss=[PIXEL, dict(PIXEL, loss_weight=2.0)])
    for name in ('loss_adv', 'loss_pp'):
        with pytest.raises(ValueError, match=f'called {name}'):
            build_gan(distillation_loss=dict(PIXEL, loss_name=name))
    build_gan(distillation_loss=[PIXEL, dict(PIXEL, loss_name='loss_more')])


def test_images_of_a_teacher_need_one():
    model = build_gan(teacher=None, teacher_as_real=0.5)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='needs a teacher'):
        train_step(model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize('name', ['tinygan', 'distill_only'])
def test_what_was_distilled_is_tested_without_its_teacher(name, repo):
    """As tools/test.py builds it."""
    config = Config.fromfile(config_path(f'{name}_digits_16'))
    config.model.teacher = None
    model = MODELS.build(config.model).eval()
    with torch.no_grad():
        images = model.generator(torch.randn(2, 24), label=torch.arange(2))
    assert images.shape == (2, 3, 16, 16)


def test_what_a_resumed_training_has_left_is_tested_like_any(
    tmp_path, monkeypatch
):
    """Its config says ``resume``, and has the teacher that it was trained
    with: a test would compare both with the checkpoint's."""
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(config_path('tinygan_digits_16'))
    config.resume, config.load_from = True, 'iter_400.pth'
    config.dump('config.py')
    Path('iter_800.pth').touch()
    monkeypatch.setattr(sys, 'argv', ['test', 'config.py', 'iter_800.pth'])
    tool = load_tool('test')
    found = tool.load_config(tool.parse_args())
    assert found.load_from == 'iter_800.pth' and not found.resume
    assert found.model.teacher is None


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            ('--cfg-options', 'test_evaluator.metrics.0.fake_num=3'),
            'fake_num: DomainMetric has no such setting',
        ),
        (
            ('--cfg-options', 'test_dataloader.batch_size=0'),
            'test_dataloader.batch_size=0 must be',
        ),
        ((), 'classifier of DomainMetric not found'),
        (
            ('--cfg-options', 'test_evaluator.metrics=[]', '--out', '.'),
            '--out: . is a folder',
        ),
    ],
)
def test_what_a_test_cannot_be_done_with_is_said_before_it(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path('iter_800.pth').touch()
    with pytest.raises(PPCDError, match=message):
        call_tool(
            monkeypatch,
            'test',
            config_path('tinygan_digits_16'),
            'iter_800.pth',
            *arguments,
        )
