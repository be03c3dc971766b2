"""Widths that hardware likes."""
import math
from typing import Dict

import torch
import torch.nn as nn

from ppcd_mmagic.channel_groups import ChannelGroup, channel_groups


@torch.no_grad()
def round_widths(student: nn.Module, multiple: int) -> Dict[str, int]:
    """Revive channels until every width is a multiple of ``multiple``.

    Of the pruned channels of a group the strongest come back, by their
    highest score; a group never gets wider than it was. The student computes
    something else afterwards: what an export of it must equal.

    Args:
        student (nn.Module): With masks, changed in place.
        multiple (int): At least 2.

    Returns:
        Dict[str, int]: Revived channels by the first convolution of a group.

    Raises:
        ValueError: If ``multiple`` is less than 2.
    """
    if multiple < 2:
        raise ValueError(f'round_to={multiple} must be at least 2.')
    return {
        group.writers[0]: revived
        for group in channel_groups(student)
        if (revived := _revive(group, multiple))
    }


def _revive(group: ChannelGroup, multiple: int) -> int:
    alive = group.alive()
    wanted = multiple * math.ceil(int(alive.sum()) / multiple)
    count = min(wanted, len(alive)) - int(alive.sum())
    scores = torch.stack([mask.weight for mask in group.masks]).amax(0)
    scores = scores.masked_fill(alive, float('-inf'))
    strongest = torch.sort(scores, descending=True, stable=True).indices[:count]
    for mask in group.masks:
        mask.pruned[strongest] = False
    return count
