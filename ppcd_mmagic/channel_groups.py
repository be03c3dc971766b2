"""Channels that can only be discarded together.

Convolutions that meet in an addition (conv_2 and shortcut of a residual
block) write the same channels; such a channel leaves the network where all
their masks have pruned it, and with it its entries in every layer that passes
it on or reads it.
"""
from dataclasses import dataclass, field
from typing import Dict, List

import torch.nn as nn
from torch import Tensor

from .layers import convolutions
from .masks import ChannelMask, alive_channels, mask_of
from .tracing import channel_users, trace


@dataclass
class ChannelGroup:
    """Layers, by name, that share their channels.

    Attributes:
        masks: Masks of the convolutions that write the channels.
        writers: Convolutions whose outputs these are.
        readers: Convolutions whose inputs these are.
        norms: Norms on the way.
    """
    masks: List[ChannelMask]
    writers: List[str] = field(default_factory=list)
    readers: List[str] = field(default_factory=list)
    norms: List[str] = field(default_factory=list)

    def alive(self) -> Tensor:
        """Bool tensor of shape (c, )."""
        return alive_channels(self.masks)


def channel_groups(generator: nn.Module) -> List[ChannelGroup]:
    """The groups of a generator whose channels may be discarded, those that
    nothing without a mask writes to.

    Raises:
        ValueError: If the forward function cannot be traced by ``torch.fx``.
    """
    convs = convolutions(generator)
    groups: Dict[ChannelMask, ChannelGroup] = {}
    open_masks = set()
    for user in channel_users(trace(generator)):
        masks = {mask_of(convs[name]): None for name in user.writers}
        if user.has_other_writers or None in masks:
            open_masks.update(masks)
        masks.pop(None, None)
        if not masks:
            continue
        group = _merge(groups, list(masks))
        group.readers += user.reads
        group.writers += user.adds
        group.norms += user.norms
    for name, conv in convs.items():
        if mask_of(conv) in groups:
            groups[mask_of(conv)].writers.append(name)
    distinct = {id(group): group for group in groups.values()}.values()
    return [
        group for group in distinct if open_masks.isdisjoint(group.masks)
    ]


def _merge(groups: Dict[ChannelMask, ChannelGroup],
           masks: List[ChannelMask]) -> ChannelGroup:
    """One group for all the masks, in place of those they are in."""
    old = {id(groups[m]): groups[m] for m in masks if m in groups}.values()
    merged = ChannelGroup(
        list(dict.fromkeys([m for g in old for m in g.masks] + masks)),
        *([name for g in old for name in getattr(g, part)]
          for part in ('writers', 'readers', 'norms')))
    groups.update(dict.fromkeys(merged.masks, merged))
    return merged
