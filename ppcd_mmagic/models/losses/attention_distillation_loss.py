from typing import Dict, Hashable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS


def attention_map(feature: Tensor, p: float = 2.0) -> Tensor:
    r"""Attention map of a feature map, flattened and L2-normalised.

    :math:`Q = \sum_c |F_c|^p`, returned as :math:`Q / \|Q\|_2` (Zagoruyko and
    Komodakis, ICLR 2017, Eq. 1 and 2).

    Args:
        feature (Tensor): Shape (n, c, h, w). Computed in float32 at least.
        p (float): Exponent.

    Returns:
        Tensor: Shape (n, h * w), non-negative, each row of L2 norm 1 (or all
        zero, where the feature map is).

    Example:
        >>> attention_map(torch.tensor([[[[0.0, 3.0]], [[2.0, 0.0]]]]))
        tensor([[0.4061, 0.9138]])
    """
    if feature.dtype in (torch.float16, torch.bfloat16):
        feature = feature.float()
    return F.normalize(feature.abs().pow(p).sum(1).flatten(1), dim=1)


@MODELS.register_module()
class AttentionDistillationLoss(nn.Module):
    r"""Class-aware distillation loss L_CD (Eqs. 4, 6; reconstruction).

    Distance between the attention maps of student and teacher for the same
    noise and class, averaged over the batch and summed over the layers.

    Args:
        loss_weight (float): Weight lambda_CD. Defaults to 1.0.
        p (float): Exponent of the attention map. Defaults to 2.
        distance (str): 'l2': :math:`\|Q_S - Q_T\|_2` per sample, in
            :math:`[0, \sqrt 2]`; 'mse': mean squared difference per pixel.
            Defaults to 'l2'.
        reduction (str): 'mean' or 'sum' over the batch. Defaults to 'mean'.
        loss_name (str): Name in the logs. Defaults to 'loss_cd'.

    Example:
        >>> loss = MODELS.build(
        ...     dict(type='AttentionDistillationLoss', loss_weight=10.0)
        ... )
        >>> student = {4: torch.randn(2, 8, 4, 4), 8: torch.randn(2, 8, 8, 8)}
        >>> teacher = {h: f.repeat(1, 9, 1, 1) for h, f in student.items()}
        >>> round(float(loss(student, teacher)), 4)  # their maps are the same
        0.0
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        p: float = 2.0,
        distance: str = 'l2',
        reduction: str = 'mean',
        loss_name: str = 'loss_cd',
    ) -> None:
        super().__init__()
        if distance not in ('l2', 'mse'):
            raise PPCDError(f'distance="{distance}" must be "l2" or "mse".')
        if reduction not in ('mean', 'sum'):
            raise PPCDError(f'reduction="{reduction}" must be "mean" or "sum".')
        self.loss_weight = loss_weight
        self.p = p
        self.distance = distance
        self.reduction = reduction
        self._loss_name = loss_name

    def forward(
        self, student: Dict[Hashable, Tensor], teacher: Dict[Hashable, Tensor]
    ) -> Tensor:
        """Compare features that go by the same key.

        Args:
            student (dict): Feature maps (n, c_s, h, w) by key.
            teacher (dict): Feature maps (n, c_t, h, w) by key; the channel
                numbers may differ, batch and size may not.

        Returns:
            Tensor: A scalar.

        Raises:
            PPCDError: If the keys or the sizes do not agree.
        """
        if set(student) != set(teacher):
            raise PPCDError(
                f'Student features at {list(student)} have no counterpart '
                f"in the teacher's at {list(teacher)}: choose layers of "
                'the same resolutions.'
            )
        layers = [self._layer(student[key], teacher[key]) for key in student]
        return self.loss_weight * torch.stack(layers).sum()

    def _layer(self, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape[2:] != teacher.shape[2:]:
            raise PPCDError(
                f'Student feature of size {tuple(student.shape[2:])} cannot be '
                f"compared with the teacher's {tuple(teacher.shape[2:])}."
            )
        difference = attention_map(student, self.p) - attention_map(
            teacher.detach(), self.p
        )
        if self.distance == 'l2':
            per_sample = difference.norm(dim=1)
        else:
            per_sample = difference.square().mean(1)
        return getattr(per_sample, self.reduction)()

    def loss_name(self) -> str:
        return self._loss_name
