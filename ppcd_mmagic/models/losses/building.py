from typing import Sequence, Union

import torch.nn as nn

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS


def compared(loss: nn.Module) -> str:
    """What a distillation loss compares, of the student and of the teacher:
    'features' of the generators by their height, 'images', or 'discriminator
    features'. A loss says it in ``compares``; one that does not compares
    features."""
    return getattr(loss, 'compares', 'features')


def build_distillation_losses(
    losses: Union[dict, Sequence[dict]],
    available: Sequence[str],
    taken: Sequence[str],
    owner: str,
) -> nn.ModuleList:
    """Build one or several distillation losses.

    Args:
        losses (dict | Sequence[dict]): Their configs.
        available (Sequence[str]): What the owner can compare, see
            :func:`compared`.
        taken (Sequence[str]): Names of the owner's other losses.
        owner (str): Who computes them, for the message.

    Raises:
        PPCDError: If a loss compares anything else, or has the name of
            another.

    Example:
        >>> attention, pixels = build_distillation_losses(
        ...     [dict(type='AttentionDistillationLoss'), dict(type='PixelDistillationLoss')],
        ...     available=['features', 'images'], taken=['loss_pp'], owner='PPCDGAN',
        ... )
        >>> compared(attention), compared(pixels)
        ('features', 'images')
    """
    configs = [losses] if isinstance(losses, dict) else losses
    built = [MODELS.build(config) for config in configs]
    names = [*taken, *(loss.loss_name() for loss in built)]
    for loss in built:
        if compared(loss) not in available:
            raise PPCDError(
                f'{type(loss).__name__} compares {compared(loss)}, but '
                f'{owner} has only {" and ".join(available)}: take another '
                'distillation_loss.'
            )
        if names.count(loss.loss_name()) > 1:
            raise PPCDError(
                f'A loss of distillation_loss is called {loss.loss_name()}, '
                'as another one is: give it a `loss_name` of its own.'
            )
    return nn.ModuleList(built)
