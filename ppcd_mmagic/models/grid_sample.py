"""Sampling images at points, with derivatives of every order."""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from mmengine.utils import digit_version
from torch import Tensor
from torch.autograd import Function


class _Sample(Function):
    """Reading images at points is linear in the images: its derivative is the
    transposed map, whose derivative is the map itself."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None]:
        return _Spread.apply(grad, *ctx.saved_tensors, ctx.shape), None


class _Spread(Function):
    """The transposed map: writes values at points into images."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, grid: Tensor, shape: torch.Size
    ) -> Tensor:
        ctx.save_for_backward(grid)
        with torch.enable_grad():
            images = values.new_zeros(shape).requires_grad_()
            sampled = F.grid_sample(images, grid, align_corners=False)
        return torch.autograd.grad(sampled, images, values)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None, None]:
        return _Sample.apply(grad, *ctx.saved_tensors), None, None


def sample_twice_differentiable(images: Tensor, grid: Tensor) -> Tensor:
    """``F.grid_sample`` (bilinear, zeros outside) for torch older than 2.12,
    whose own has no second derivative; a gradient penalty (R1) on what is
    sampled needs it. Constant in the grid.

    Args:
        images (Tensor): Shape (n, c, h, w).
        grid (Tensor): Points (n, h_out, w_out, 2) in [-1, 1], without
            gradient.

    Returns:
        Tensor: Shape (n, c, h_out, w_out).

    Example:
        >>> images = torch.arange(4.0).view(1, 1, 2, 2)
        >>> sample_twice_differentiable(images, torch.zeros(1, 1, 1, 2))
        tensor([[[[1.5000]]]])
    """
    return _Sample.apply(images, grid)


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """See :func:`sample_twice_differentiable`; torch's own where it will
    do."""
    if digit_version(torch.__version__) < digit_version('2.12'):
        return sample_twice_differentiable(images, grid)
    return F.grid_sample(images, grid, align_corners=False)
