"""Taking pruned channels out of a generator that is still being trained."""
from typing import Iterator, Mapping, Optional, Tuple

import torch
import torch.nn as nn
from mmagic.models.editors.biggan.biggan_snmodule import (SNConv2d,
                                                          SNEmbedding, SNLinear)
from torch import Tensor
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.optim import Optimizer

from .channel_groups import channel_groups
from .layers import (LAYERS, keep_channels, layer_sizes, resize_layers,
                     sizes_in, zero_channels)
from .masks import ChannelMask, named_masks


@torch.no_grad()
def remove_dead_channels(generator: nn.Module,
                         optimizer: Optional[Optimizer] = None) -> int:
    """Cut out every channel that all its masks have pruned.

    Layers, masks and optimizer state become smaller. What the generator
    computes stays the same but for spectral norm, see
    :func:`zero_dead_channels`.

    Args:
        generator (nn.Module): With masks, changed in place.
        optimizer (Optimizer, optional): Its optimizer, changed as well.

    Returns:
        int: Number of channels removed.
    """
    removed = 0
    for layer, side, alive in list(_dead(generator)):
        kept = alive.nonzero().flatten()
        if isinstance(layer, ChannelMask):
            removed += len(alive) - len(kept)
            layer.keep(kept, optimizer)
        else:
            keep_channels(layer, **{side: kept}, optimizer=optimizer)
    _settle_spectral_norm(generator)
    return removed


@torch.no_grad()
def zero_dead_channels(generator: nn.Module,
                       optimizer: Optional[Optimizer] = None) -> None:
    """Set to zero what :func:`remove_dead_channels` would remove.

    Dead weights reach no image, but spectral norm divides the living ones by
    the singular value of all of them. With the dead ones at zero, weights and
    optimizer state alike, it is that of the living ones, and no gradient
    through it moves the dead ones again: a generator that is zeroed and one
    that is cut train alike.
    """
    for layer, side, alive in list(_dead(generator)):
        if not isinstance(layer, ChannelMask):
            dead = (~alive).nonzero().flatten()
            zero_channels(layer, side, dead, optimizer)
    _settle_spectral_norm(generator)


def _dead(generator: nn.Module) -> Iterator[Tuple[nn.Module, str, Tensor]]:
    """Layers and masks with dead channels, on which side, and what lives."""
    for group in channel_groups(generator):
        alive = group.alive()
        if alive.all():
            continue
        for name in group.writers:
            yield generator.get_submodule(name), 'outputs', alive
        for name in group.readers:
            yield generator.get_submodule(name), 'inputs', alive
        for name in group.norms:
            for layer in generator.get_submodule(name).modules():
                if isinstance(layer, LAYERS):
                    yield layer, 'outputs', alive
        for mask in group.masks:
            yield mask, 'outputs', alive


def _settle_spectral_norm(generator: nn.Module, iterations: int = 5) -> None:
    """Find the singular vectors of weights that have lost channels, for those
    who use them before the next training step does."""
    for layer in generator.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                for _ in range(iterations):
                    hook.compute_weight(layer, do_power_iteration=True)
        if isinstance(layer, (SNConv2d, SNLinear, SNEmbedding)):
            training = layer.training
            layer.train()
            for _ in range(iterations):
                layer.sn_weight()
            layer.train(training)


@torch.no_grad()
def fit_to_state(generator: nn.Module,
                 state: Mapping[str, Tensor],
                 optimizer: Optional[Optimizer] = None) -> None:
    """Give a generator as it was built the sizes of a state dict that was
    saved after channels were removed. Sizes that differ otherwise are left
    to whoever loads the state."""
    present = layer_sizes(generator)
    resize_layers(
        generator, {
            name: size
            for name, size in sizes_in(generator, state).items()
            if all(new <= old for new, old in zip(size, present[name]))
        }, optimizer)
    for name, mask in named_masks(generator):
        keys = (f'{name}{x}.mask.pruned' for x in ('', '.conv'))
        pruned = next((state[key] for key in keys if key in state), None)
        if pruned is not None and len(pruned) < len(mask.pruned):
            kept = torch.arange(len(pruned), device=mask.pruned.device)
            mask.keep(kept, optimizer)
