import pytest
import torch
import torch.nn.functional as F

from ppcd_mmagic.models import sample_twice_differentiable
from ppcd_mmagic.registry import MODELS


@pytest.fixture
def grid():
    """Points in and around images of 5 x 4."""
    maps = torch.tensor([[[0.9, -0.2, 0.1], [0.2, 0.8, -0.3]]] * 2)
    return F.affine_grid(maps.double(), (2, 1, 5, 4), align_corners=False)


def random_images():
    return torch.randn(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)


def test_values_are_torchs(grid):
    images = random_images()
    torch.testing.assert_close(
        sample_twice_differentiable(images, grid),
        F.grid_sample(images, grid, align_corners=False),
    )


@pytest.mark.parametrize(
    'check', [torch.autograd.gradcheck, torch.autograd.gradgradcheck]
)
def test_derivatives_of_both_orders_are_right(check, grid):
    # the square makes the second one depend on the images
    assert check(
        lambda images: sample_twice_differentiable(images, grid) ** 2,
        random_images(),
    )


@pytest.mark.parametrize(
    'version, own',
    [
        ('2.11.0', False),
        ('2.12.0', True),
        ('2.12.1+cpu', True),
        ('3.0.0', True),
    ],
)
def test_torch_s_own_is_taken_from_where_it_has_second_derivatives(
    monkeypatch, version, own
):
    monkeypatch.setattr(torch, '__version__', version)
    called = []
    monkeypatch.setattr(
        F,
        'grid_sample',
        lambda images, grid, align_corners: (
            called.append(torch.is_grad_enabled()) or images
        ),
    )
    MODELS.build(
        dict(
            type='AugmentedDiscriminator',
            discriminator=dict(
                type='ProjDiscriminator',
                input_scale=16,
                base_channels=4,
                channels_cfg=[2, 2],
                downsample_cfg=[True, False],
                num_classes=3,
            ),
        )
    )(torch.zeros(2, 3, 16, 16), label=torch.tensor([0, 1]))
    # inside of a Function of ours gradients are off
    assert called == [own]
