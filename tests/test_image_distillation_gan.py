import copy

import pytest
import torch
from conftest import NOISE, SAGAN
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
    pruning_by_hand,
    step_by_hand,
    train_step,
    trained_gan,
)
from mmengine.config import Config

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.registry import MODELS

DENSE = dict(SAGAN, type='SAGANGenerator')
BLACK_BOX = dict(
    type='ImageDistillationGAN', generator=DENSE, pruning_loss=None
)


def teachers_images(hand, data, noise, labels):
    """The discriminator's real images: same noise and class as the fake."""
    with torch.no_grad():
        return hand.teacher(noise, label=labels)


def copying_losses(pixel_weight=1.0, feature_weight=0.0, layers=('0', '1')):
    """Mean distance of pixels, and of the discriminator's features, which are
    summed over its blocks."""

    def losses(hand, noise, labels, teacher_labels):
        fake = hand.generator(noise, label=labels)
        with torch.no_grad():
            target = hand.teacher(noise, label=teacher_labels)
        found = dict(
            loss_pixel=pixel_weight * (fake - target).abs().sum() / fake.numel()
        )
        if feature_weight:
            ours, theirs = (
                block_outputs(
                    hand.discriminator,
                    lambda images=images: hand.discriminator(
                        images, label=labels
                    ),
                    layers,
                )[0]
                for images in (fake, target)
            )
            found['loss_feature'] = feature_weight * sum(
                (a - b).abs().sum() / a.numel() for a, b in zip(ours, theirs)
            )
        return fake, found

    return losses


def test_a_step_of_tiny_gan_by_hand():
    model = trained_gan(
        **BLACK_BOX,
        pixel_weight=3.0,
        feature_weight=0.7,
        loss_config=dict(gan_loss=HINGE, disc_auxiliary_loss=R1),
    )
    assert_same_step(
        step_by_hand(
            model,
            copying_losses(3.0, 0.7),
            batch((0, 1, 3, 4, 4, 2)),
            real=teachers_images,
        )
    )


def test_a_class_irrelevant_step_of_tiny_gan_by_hand():
    """Only what the student copies is of another class; what the
    discriminator takes for real stays of its own."""
    model = trained_gan(
        **BLACK_BOX,
        class_aware=False,
        feature_weight=0.7,
        feature_layers=['conv_blocks.1'],
    )
    assert_same_step(
        step_by_hand(
            model,
            copying_losses(1.0, 0.7, layers='1'),
            batch((0, 1, 3, 4, 4, 2)),
            real=teachers_images,
        )
    )


def test_by_default_only_pixels_are_copied_and_masks_can_be_pruned():
    model = trained_gan(type='ImageDistillationGAN')
    pixels = copying_losses()

    def losses(hand, *args):
        fake, found = pixels(hand, *args)
        found['loss_pp'] = 0.1 * pruning_by_hand(
            [mask for _, mask in named_masks(hand.generator)]
        )
        return fake, found

    assert_same_step(step_by_hand(model, losses, batch(), real=teachers_images))


@pytest.mark.parametrize('wrap', [lambda network: network, StandInForDDP])
def test_features_are_of_the_images_as_they_are(wrap):
    """Not of maps that an augmentation draws for each: a student that draws
    the target has nothing left to learn."""
    model = build_gan(
        **BLACK_BOX,
        discriminator=dict(
            type='AugmentedDiscriminator', discriminator=DISCRIMINATOR
        ),
        feature_weight=1.0,
        feature_layers='discriminator.conv_blocks.*',
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
    model.teacher.images = lambda noise, labels: images.detach()
    _, losses = model.distill(noise, labels)
    assert losses['loss_feature'] == losses['loss_pixel'] == 0


def test_the_discriminator_never_sees_the_data():
    model = build_gan(**BLACK_BOX, feature_weight=1.0)
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
    model = build_gan(**BLACK_BOX, class_aware=False, feature_weight=1.0)
    teachers, judged = (
        Calls(network)
        for network in (model.teacher.generator, model.discriminator)
    )
    labels = torch.arange(5).repeat(8)
    train_step(model, batch(labels.tolist()))
    assert torch.equal(teachers[0][1], labels)
    assert (teachers[1][1] != labels).all()
    assert all(torch.equal(seen, labels) for _, seen in judged)


def test_unknown_layers_of_the_discriminator_are_found_when_it_is_built():
    with pytest.raises(ValueError, match='"heads.*ProjDiscriminator'):
        build_gan(**BLACK_BOX, feature_weight=1.0, feature_layers='heads.*')


def test_black_box_distillation_needs_a_teacher():
    model = build_gan(type='ImageDistillationGAN', teacher=None)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='needs a teacher'):
        train_step(model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize('name', ['tinygan', 'distill_only'])
def test_what_was_distilled_is_tested_without_its_teacher(name, repo):
    """As tools/test.py builds it."""
    config = Config.fromfile(f'configs/{name}_digits_16.py')
    config.model.teacher = None
    model = MODELS.build(config.model).eval()
    with torch.no_grad():
        images = model.generator(torch.randn(2, 24), label=torch.arange(2))
    assert images.shape == (2, 3, 16, 16)
