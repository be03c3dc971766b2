"""Masks and exact removal of channels, on any ``nn.Module``.

What is listed here is public; everything else may change.
"""
from .complexity import complexity
from .computed_weights import fold_computed_weights
from .linking import Channels, link_masks, mask_channels
from .masks import ChannelMask, copy_masks, named_masks
from .rules import (channelwise, convolution, embedding, linear, mixes, pooled,
                    register_rule, same)
from .shrinking import fit_to_state, shrink_channels, zero_dead_channels
from .verification import ExportMismatch
from .widths import Widths, layer_sizes, resize_layers

__all__ = [
    'ChannelMask', 'Channels', 'ExportMismatch', 'Widths', 'channelwise',
    'complexity', 'convolution', 'copy_masks', 'discard_channels', 'embedding',
    'fit_to_state', 'fold_computed_weights', 'layer_sizes', 'linear',
    'link_masks', 'mask_channels', 'mixes', 'named_masks', 'pooled',
    'register_rule', 'resize_layers', 'same', 'shrink_channels',
    'zero_dead_channels'
]


def __getattr__(name: str):
    """NNI takes a second to import and has no wheel everywhere; only what
    discards channels needs it."""
    if name == 'discard_channels':
        from .speedup import discard_channels
        return discard_channels
    raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
