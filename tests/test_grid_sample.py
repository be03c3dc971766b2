import pytest
import torch
import torch.nn.functional as F

from ppcd_mmagic.models import sample_twice_differentiable


@pytest.fixture
def grid():
    """Points in and around images of 5 x 4."""
    maps = torch.tensor([[[.9, -.2, .1], [.2, .8, -.3]]] * 2)
    return F.affine_grid(maps.double(), (2, 1, 5, 4), align_corners=False)


def random_images():
    return torch.randn(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)


def test_values_are_torchs(grid):
    images = random_images()
    torch.testing.assert_close(
        sample_twice_differentiable(images, grid),
        F.grid_sample(images, grid, align_corners=False))


@pytest.mark.parametrize(
    'check', [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_derivatives_of_both_orders_are_right(check, grid):
    # the square makes the second one depend on the images
    assert check(lambda images: sample_twice_differentiable(images, grid)**2,
                 random_images())
