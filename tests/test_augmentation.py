"""What AugmentedDiscriminator shows to the discriminator inside it."""

import math

import pytest
import torch
import torch.nn as nn
from conftest import CLASSES
from gans import DISCRIMINATOR, build_gan, train_step

from ppcd_mmagic.registry import MODELS

SIDE = 33  # odd: there is a pixel in the middle


@MODELS.register_module()
class Onlooker(nn.Module):
    """Keeps what it is shown; its score is the sum of the image."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images, label=None):
        self.seen, self.label = images, label
        return images.flatten(1).sum(1, keepdim=True)


def augmented(**strengths):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='AugmentedDiscriminator',
            discriminator=dict(type='Onlooker'),
            num_classes=CLASSES,
            **{**dict(shift=0.0, rotation=0.0, scale=0.0), **strengths},
        )
    )


def shown(images, **strengths):
    discriminator = augmented(**strengths)
    discriminator(images)
    return discriminator.discriminator.seen


def pixels():
    """Places of the pixels, from the middle, in pixels: x, y of each."""
    place = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    y, x = torch.meshgrid(place, place, indexing='ij')
    return torch.stack([x, y])


def drawn_maps(n=400, **strengths):
    """The affine maps, solved from images whose values are the places of
    their pixels: each (2, 3), from a place shown to the place it came from,
    in pixels from the middle."""
    places = pixels()
    images = (places / SIDE).expand(n, -1, -1, -1)
    inner = (places.abs() < SIDE // 3).all(0)  # nothing from outside
    came_from = shown(images, **strengths)[:, :, inner] * SIDE
    shown_at = places[:, inner]
    equations = torch.cat([shown_at, torch.ones_like(shown_at[:1])]).t()
    solved = torch.linalg.lstsq(equations, came_from.flatten(0, 1).t()).solution
    maps = solved.t().view(n, 2, 3)
    torch.testing.assert_close(  # affine they are
        maps @ equations.t(), came_from, rtol=0, atol=1e-4
    )
    return maps


def assert_uniform(values, largest):
    """Uniform in [-largest, largest]."""
    assert values.abs().max() <= largest * (1 + 1e-6)
    ordered = values.sort().values / largest
    expected = torch.linspace(-1, 1, len(values), dtype=ordered.dtype)
    assert (ordered - expected).abs().max() < 0.2


def test_zero_strengths_change_nothing():
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(shown(images), images, rtol=0, atol=1e-5)


def test_shifts_are_uniform_fractions_of_the_side():
    maps = drawn_maps(shift=0.1)
    torch.testing.assert_close(
        maps[:, :, :2],
        torch.eye(2).double().expand(400, 2, 2),
        rtol=0,
        atol=1e-5,
    )
    for moved in maps[:, :, 2].t():
        assert_uniform(moved, 0.1 * SIDE)
    assert torch.corrcoef(maps[:, :, 2].t())[0, 1].abs() < 0.2


def test_rotations_are_uniform_angles_about_the_middle():
    maps = drawn_maps(rotation=20.0)
    assert maps[:, :, 2].abs().max() < 1e-4
    turned = maps[:, :, :2]
    torch.testing.assert_close(
        turned @ turned.transpose(1, 2),
        torch.eye(2).double().expand(400, 2, 2),
        rtol=0,
        atol=1e-5,
    )
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    assert_uniform(angles, math.radians(20))
    torch.testing.assert_close(turned[:, 0, 1], -turned[:, 1, 0])


def test_sizes_are_uniform_about_one():
    maps = drawn_maps(scale=0.25)
    assert maps[:, :, 2].abs().max() < 1e-4
    sizes = maps[:, 0, 0]
    torch.testing.assert_close(
        maps[:, :, :2], sizes[:, None, None] * torch.eye(2), rtol=0, atol=1e-5
    )
    assert_uniform(sizes - 1, 0.25)


def test_turned_and_scaled_images_are_not_sheared():
    maps = drawn_maps(rotation=20.0, scale=0.25)[:, :, :2]
    sizes = torch.linalg.det(maps).sqrt()
    assert sizes.std() > 0.1
    torch.testing.assert_close(
        maps @ maps.transpose(1, 2),
        (sizes**2)[:, None, None] * torch.eye(2),
        rtol=0,
        atol=1e-5,
    )


def test_default_strengths():
    maps = drawn_maps(shift=0.06, rotation=5.0, scale=0.05)
    by_default = MODELS.build(
        dict(
            type='AugmentedDiscriminator',
            discriminator=dict(type='Onlooker'),
            num_classes=CLASSES,
        )
    )
    images = (pixels() / SIDE).expand(400, -1, -1, -1)
    torch.manual_seed(0)
    by_default(images)
    came_from = maps @ torch.tensor([3.0, -2.0, 1.0]).double()
    middle = SIDE // 2
    torch.testing.assert_close(
        by_default.discriminator.seen[:, :, middle - 2, middle + 3] * SIDE,
        came_from,
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    'strengths, place',
    [
        # what is shown came from 4 pixels further right and further down
        (dict(shift=4 / SIDE), (4, -10)),
        # (x, y) came from (-y, x)
        (dict(rotation=90.0), (-6, -8)),
        # came from twice as far from the middle
        (dict(scale=1.0), (4, -3)),
        (dict(rotation=90.0, scale=1.0), (-3, -4)),
    ],
)
def test_a_dot_goes_where_the_largest_map_puts_it(
    monkeypatch, strengths, place
):
    """Of the dot at x = 8, y = -6 from the middle."""
    monkeypatch.setattr(torch, 'rand', torch.ones)
    image = torch.full((1, 1, SIDE, SIDE), -1.0)
    middle = SIDE // 2
    image[0, 0, middle - 6, middle + 8] = 1
    expected = torch.full_like(image, -1.0)
    expected[0, 0, middle + place[1], middle + place[0]] = 1
    torch.testing.assert_close(
        shown(image, **strengths), expected, rtol=0, atol=1e-4
    )


def test_what_comes_in_from_outside_is_black():
    images = torch.ones(200, 3, 16, 16)
    out = shown(images, shift=0.5)
    assert out.min() == -1 and out.max() <= 1 + 1e-6
    # on average a quarter of each side, 1 - 0.75^2 of the image
    black = (out < 1 - 1e-3).double().mean()
    assert 0.35 < black < 0.55


@pytest.mark.parametrize('training', [False, True])
def test_every_image_of_every_call_has_a_map_of_its_own(training):
    discriminator = augmented(shift=0.1).train(training)
    image = torch.rand(1, 3, 16, 16).expand(4, -1, -1, -1)
    every = []
    for _ in range(2):
        discriminator(image)
        every.append(discriminator.discriminator.seen)
    every = torch.cat(every).flatten(1)
    assert (torch.cdist(every, every) + 9 * torch.eye(8)).min() > 0.1


def test_score_and_label_are_those_of_the_discriminator_inside():
    discriminator = augmented(shift=0.1)
    label = torch.tensor([2, 0])
    score = discriminator(torch.rand(2, 3, 16, 16), label=label)
    assert torch.equal(discriminator.discriminator.label, label)
    assert torch.equal(
        score, discriminator.discriminator.seen.flatten(1).sum(1)[:, None]
    )
    assert discriminator.num_classes == CLASSES


def test_gradients_reach_the_image_by_finite_differences():
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    weight = torch.randn(2, 1, 16, 16, dtype=torch.float64)

    def run(values):
        return (
            shown(values, shift=0.2, rotation=30.0, scale=0.2) * weight
        ).sum()

    images.requires_grad_()
    (gradient,) = torch.autograd.grad(run(images), images)
    assert gradient.abs().max() > 0.5
    for place in [(0, 0, 8, 8), (1, 0, 3, 12), (1, 0, 10, 5)]:
        step = torch.zeros_like(images)
        step[place] = 1e-4
        slope = (run(images + step) - run(images - step)) / 2e-4
        assert float(gradient[place]) == pytest.approx(
            float(slope), rel=1e-6, abs=1e-9
        )


def test_in_training_real_and_fake_images_are_both_augmented():
    model = build_gan(
        discriminator=dict(
            type='AugmentedDiscriminator', discriminator=DISCRIMINATOR
        )
    )
    given, judged = [], []
    for network, images in (
        (model.discriminator, given),
        (model.discriminator.discriminator, judged),
    ):
        network.register_forward_pre_hook(
            lambda net, args, images=images: images.append(args[0].detach())
        )
    train_step(model)
    assert len(given) == len(judged) == 3
    for before, after in zip(given, judged):
        assert before.shape == after.shape
        assert ((before - after).abs().flatten(1).max(1).values > 1e-2).all()


def test_it_is_part_of_the_model_and_passes_the_classes_on():
    model = build_gan(
        discriminator=dict(
            type='AugmentedDiscriminator',
            discriminator={
                k: v for k, v in DISCRIMINATOR.items() if k != 'num_classes'
            },
        )
    )
    assert model.discriminator.discriminator.num_classes == CLASSES
    assert any(
        key.startswith('discriminator.discriminator.proj_y')
        for key in model.state_dict()
    )
