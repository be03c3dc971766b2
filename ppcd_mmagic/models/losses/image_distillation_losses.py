"""Losses of black-box distillation, which compare what is drawn."""

from typing import Dict, Sequence, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ppcd_mmagic.registry import MODELS


@MODELS.register_module()
class PixelDistillationLoss(nn.Module):
    """Mean absolute difference of the student's image to the teacher's, of the
    same noise and class (Aguinaldo et al., 2019; Chang and Lu, ACCV 2020).

    Args:
        loss_weight (float): Defaults to 1.0.
        loss_name (str): Name in the logs. Defaults to 'loss_pixel'.

    Example:
        >>> loss = MODELS.build(dict(type='PixelDistillationLoss', loss_weight=2.0))
        >>> loss(torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.25))
        tensor(0.5000)
    """

    compares = 'images'

    def __init__(
        self, loss_weight: float = 1.0, loss_name: str = 'loss_pixel'
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Images (n, c, h, w), of one shape, to a scalar."""
        return self.loss_weight * F.l1_loss(student, teacher.detach())

    def loss_name(self) -> str:
        return self._loss_name


@MODELS.register_module()
class DiscriminatorFeatureLoss(nn.Module):
    """Mean absolute difference of what a discriminator makes of the student's
    image and of the teacher's, summed over its layers (Chang and Lu, ACCV
    2020).

    Args:
        loss_weight (float): Defaults to 1.0.
        layers (str | Sequence[str]): Layers of the discriminator, of the one
            inside where it is an :class:`AugmentedDiscriminator`. Defaults to
            'conv_blocks.*'.
        loss_name (str): Name in the logs. Defaults to 'loss_feature'.

    Example:
        >>> loss = MODELS.build(
        ...     dict(type='DiscriminatorFeatureLoss', layers='conv_blocks.*')
        ... )
        >>> student = {'conv_blocks.0': torch.zeros(2, 8, 4, 4)}
        >>> loss(student, {'conv_blocks.0': torch.ones(2, 8, 4, 4)})
        tensor(1.)
    """

    compares = 'discriminator features'

    def __init__(
        self,
        loss_weight: float = 1.0,
        layers: Union[str, Sequence[str]] = 'conv_blocks.*',
        loss_name: str = 'loss_feature',
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.layers = layers
        self._loss_name = loss_name

    def forward(
        self, student: Dict[str, Tensor], teacher: Dict[str, Tensor]
    ) -> Tensor:
        """Outputs of the layers by their names, to a scalar."""
        distances = [
            F.l1_loss(student[name], teacher[name].detach()) for name in student
        ]
        return self.loss_weight * torch.stack(distances).sum()

    def loss_name(self) -> str:
        return self._loss_name
