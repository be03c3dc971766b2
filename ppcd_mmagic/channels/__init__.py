"""Masks and exact removal of channels, on any ``nn.Module``.

What is listed here is public; everything else may change.
"""

from typing import TYPE_CHECKING

from .computed_weights import fold_computed_weights
from .cost import as_written, complexity, remaining_complexity
from .linking import Channels, is_linked, link_masks, mask_channels
from .masks import ChannelMask, copy_masks, named_masks, without_masks
from .rehearsal import rehearse
from .rules import (
    channelwise,
    convolution,
    embedding,
    linear,
    mixes,
    pooled,
    register_rule,
    same,
)
from .shrinking import (
    fit_to_state,
    narrow_to_state,
    shrink_channels,
    zero_dead_channels,
)
from .verification import ExportMismatch, largest_difference, outputs_of
from .widths import Widths, layer_sizes, resize_layers

if TYPE_CHECKING:
    from .speedup import discard_channels

__all__ = [
    'ChannelMask',
    'Channels',
    'ExportMismatch',
    'Widths',
    'as_written',
    'channelwise',
    'complexity',
    'convolution',
    'copy_masks',
    'discard_channels',
    'embedding',
    'fit_to_state',
    'fold_computed_weights',
    'is_linked',
    'largest_difference',
    'layer_sizes',
    'linear',
    'link_masks',
    'mask_channels',
    'mixes',
    'named_masks',
    'narrow_to_state',
    'outputs_of',
    'pooled',
    'register_rule',
    'rehearse',
    'remaining_complexity',
    'resize_layers',
    'same',
    'shrink_channels',
    'without_masks',
    'zero_dead_channels',
]


def __getattr__(name: str):
    """NNI takes a second to import and has no wheel everywhere; only what
    discards channels needs it."""
    if name == 'discard_channels':
        from .speedup import discard_channels

        return discard_channels
    raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
