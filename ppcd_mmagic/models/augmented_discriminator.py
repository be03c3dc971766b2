import math
from typing import Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ppcd_mmagic.registry import MODELS
from .grid_sample import sample


def random_affine(
    images: Tensor, shift: float, rotation: float, scale: float
) -> Tensor:
    """Move, turn and scale every image of a batch a little, differentiably.

    Args:
        images (Tensor): Shape (n, c, h, w), in [-1, 1]; what comes in from
            outside is -1.
        shift (float): Largest shift, as a fraction of the side.
        rotation (float): Largest angle, in degrees.
        scale (float): Largest relative change of size.

    Returns:
        Tensor: Same shape.
    """

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, device=images.device) * 2 - 1

    n = len(images)
    angle = uniform(n) * math.radians(rotation)
    size = 1 + uniform(n) * scale
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    moved = 2 * shift * uniform(n, 2)
    matrix = torch.stack([cos, -sin, moved[:, 0], sin, cos, moved[:, 1]], 1)
    grid = F.affine_grid(
        matrix.view(n, 2, 3).to(images), list(images.shape), align_corners=False
    )
    return sample(images + 1, grid) - 1


@MODELS.register_module()
class AugmentedDiscriminator(nn.Module):
    """A discriminator that sees real and fake images through the same random
    affine maps (DiffAugment, Zhao et al., 2020), against overfitting to few
    images.

    Args:
        discriminator (dict): Config of the discriminator.
        shift (float): See :func:`random_affine`. Defaults to 0.06.
        rotation (float): Defaults to 5.
        scale (float): Defaults to 0.05.
        num_classes (int, optional): Passed to the discriminator.

    Example:
        >>> discriminator = MODELS.build(
        ...     dict(
        ...         type='AugmentedDiscriminator', num_classes=3, rotation=10.0,
        ...         discriminator=dict(
        ...             type='ProjDiscriminator', input_scale=32, base_channels=8
        ...         ),
        ...     )
        ... )
        >>> discriminator(torch.zeros(2, 3, 32, 32), torch.tensor([0, 2])).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        discriminator: dict,
        shift: float = 0.06,
        rotation: float = 5.0,
        scale: float = 0.05,
        num_classes: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.discriminator = MODELS.build(
            discriminator, default_args=dict(num_classes=num_classes)
        )
        self.num_classes = self.discriminator.num_classes
        self.augmentation = dict(shift=shift, rotation=rotation, scale=scale)

    def forward(self, images: Tensor, label: Optional[Tensor] = None) -> Tensor:
        """Images (n, 3, h, w) to predictions (n, 1)."""
        return self.discriminator(
            random_affine(images, **self.augmentation), label=label
        )
