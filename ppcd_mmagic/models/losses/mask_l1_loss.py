from typing import Iterable

import torch
import torch.nn as nn
from torch import Tensor

from ppcd_mmagic.channels import ChannelMask
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS


@MODELS.register_module()
class MaskL1Loss(nn.Module):
    r"""Pruning loss L_PP: the L1 norm of the masks (Eqs. 2, 5; reconstruction).

    .. math::
        L_{PP} = \frac{1}{M} \sum_{m=1}^{M} \frac{1}{c_m}
                 \sum_{i \text{ alive}} |m_i|

    The mean over channels and masks keeps the weight independent of the width
    and depth of the network. Starts at 1 (times the weight) and falls as
    scores shrink and channels die.

    Args:
        loss_weight (float): Weight lambda_PP. Defaults to 1.0.
        reduction (str): 'mean' or 'sum' over the masks. Defaults to 'mean'.
        loss_name (str): Name in the logs. Defaults to 'loss_pp'.

    Example:
        >>> loss = MODELS.build(dict(type='MaskL1Loss', loss_weight=0.1))
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> channels = mask_channels(net, torch.zeros(1, 3, 4, 4))
        >>> channels.masks['0'].prune(4)
        >>> round(float(loss(channels.masks.values())), 6)  # 0.1 * 4 / 8
        0.05
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        loss_name: str = 'loss_pp',
    ) -> None:
        super().__init__()
        if reduction not in ('mean', 'sum'):
            raise PPCDError(f'reduction="{reduction}" must be "mean" or "sum".')
        self.loss_weight = loss_weight
        self.reduction = reduction
        self._loss_name = loss_name

    def forward(self, masks: Iterable[ChannelMask]) -> Tensor:
        """Args: masks: The masks of one generator. Returns: A scalar."""
        norms = torch.stack(
            [
                mask.weight.masked_fill(mask.pruned, 0).abs().sum()
                / mask.channels
                for mask in masks
            ]
        )
        return self.loss_weight * getattr(norms, self.reduction)()

    def loss_name(self) -> str:
        return self._loss_name
