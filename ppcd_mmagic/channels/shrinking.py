"""Taking pruned channels out of a module that is still being trained."""

from typing import Any, Dict, Mapping, Optional

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim import Optimizer

from ppcd_mmagic.errors import PPCDError
from .computed_weights import fold_computed_weights, settle_computed_weights
from .linking import link_masks
from .masks import ChannelMask, suspended_gates
from .verification import (
    copy_on_cpu,
    does_not_run,
    on_cpu,
    outputs_of,
    require_same,
)
from .widths import (
    keep_channels,
    layer_sizes,
    replace,
    require_known_parametrization,
    resize_layers,
    sizes_in,
    width,
    zero_channels,
)


@torch.no_grad()
def shrink_channels(
    module: nn.Module,
    example_inputs: Any,
    optimizer: Optional[Optimizer] = None,
) -> int:
    """Cut out every channel that can be discarded now, in place.

    Layers, masks and optimizer state become smaller; the masks stay, and can
    go on pruning. What the module computes stays the same but for spectral
    norm, see :func:`zero_dead_channels`. A copy is cut first and compared, so
    that a module that cannot be cut stays as it is.

    Args:
        module (nn.Module): With masks.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        optimizer (Optimizer, optional): Its optimizer, changed as well.

    Returns:
        int: Number of mask entries removed.

    Raises:
        ExportMismatch: If the copy computes something else.
        PPCDError: If it cannot be cut, or does not run then.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> images = torch.randn(1, 3, 4, 4)
        >>> adam = torch.optim.Adam(net.parameters())
        >>> mask_channels(net, images).masks['0'].prune(6)
        >>> shrink_channels(net, images, adam)
        6
        >>> net
        Sequential(
          (0): Conv2d(
            3, 2, kernel_size=(1, 1), stride=(1, 1)
            (mask): ChannelMask(8, pruned=6)
          )
          (1): Conv2d(2, 3, kernel_size=(1, 1), stride=(1, 1))
        )
    """
    kept = link_masks(module, example_inputs).kept()
    if not kept:
        return 0
    for owner, side in kept:
        if not isinstance(side, int):
            require_known_parametrization(module.get_submodule(owner))
    try_cut(folded_copy(module), example_inputs, kept)
    before = _entries(module)
    _cut(module, example_inputs, kept, optimizer)
    return before - _entries(module)


def folded_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU with its masks, without computed weights: what
    spectral norm divides by changes with what is left."""
    copy = copy_on_cpu(module)
    fold_computed_weights(copy)
    return copy


def try_cut(
    module: nn.Module,
    example_inputs: Any,
    kept: Dict[tuple, Tensor],
    others: bool = True,
) -> None:
    """Cut a copy, and compare it with the module, which stays as it is, in
    evaluation and in training mode.

    Args:
        module (nn.Module): On the CPU, without computed weights.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        kept (dict): What stays, see :class:`Channels`.
        others (bool): Whether on other inputs as well, and in training mode.
            Defaults to True.

    Raises:
        ExportMismatch: If the copy computes something else.
        PPCDError: If it cannot be cut, or does not run then.
    """
    inputs, smaller = on_cpu(example_inputs), copy_on_cpu(module)
    _cut(smaller, inputs, kept)
    require_same(module, smaller, inputs, training=True, others=others)


def _cut(
    module: nn.Module,
    example_inputs: Any,
    kept: Dict[tuple, Tensor],
    optimizer: Optional[Optimizer] = None,
) -> None:
    for (owner, side), indices in kept.items():
        _keep(module, owner, side, indices, optimizer)
    settle_computed_weights(module)
    try:
        link_masks(module, example_inputs)
    except PPCDError:
        _require_running(module, example_inputs)
        raise


def _require_running(module: nn.Module, example_inputs: Any) -> None:
    """Tell a network that does not run any more from inputs that do not fit
    it, for which a recording takes it."""
    try:
        with suspended_gates():
            outputs_of(module, example_inputs)
    except Exception as error:  # whatever its forward makes of fewer channels
        raise does_not_run(
            type(module).__name__, 'the example inputs', error
        ) from error


def _keep(
    module: nn.Module,
    owner: str,
    side: Any,
    kept: Tensor,
    optimizer: Optional[Optimizer],
) -> None:
    kept = kept.to(next(module.parameters()).device)
    if isinstance(side, int):  # a parameter of its own
        parent, _, name = owner.rpartition('.')
        replace(
            module.get_submodule(parent),
            name,
            lambda value: value.index_select(side, kept),
            optimizer,
        )
    else:
        keep_channels(module.get_submodule(owner), side, kept, optimizer)


def _entries(module: nn.Module) -> int:
    return sum(
        child.present
        for child in module.modules()
        if isinstance(child, ChannelMask)
    )


@torch.no_grad()
def zero_dead_channels(
    module: nn.Module,
    example_inputs: Any,
    optimizer: Optional[Optimizer] = None,
) -> None:
    """Set to zero what :func:`shrink_channels` would remove.

    Dead weights reach no image, but spectral norm divides the living ones by
    the singular value of all of them. With the dead ones at zero, weights and
    optimizer state alike, it is that of the living ones, and no gradient
    through it moves the dead ones again: a module that is zeroed and one that
    is cut train alike.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> images = torch.randn(1, 3, 4, 4)
        >>> mask_channels(net, images).masks['0'].prune(6)
        >>> zero_dead_channels(net, images)
        >>> int(net[0].weight.flatten(1).any(1).sum())
        2
    """
    device = next(module.parameters()).device
    channels = link_masks(module, example_inputs)
    before = _nonzero(module)
    for (owner, side), kept in channels.kept().items():
        if isinstance(side, int):
            continue
        layer = module.get_submodule(owner)
        if isinstance(layer, ChannelMask):
            continue
        dead = torch.ones(width(layer, side), dtype=torch.bool)
        dead[kept] = False
        zero_channels(
            layer, side, dead.nonzero().flatten().to(device), optimizer
        )
    if _nonzero(module) != before:  # else nothing would be cut now
        settle_computed_weights(module)


def _nonzero(module: nn.Module) -> int:
    return sum(int(weight.count_nonzero()) for weight in module.parameters())


@torch.no_grad()
def fit_to_state(
    module: nn.Module,
    example_inputs: Any,
    state: Mapping[str, Tensor],
    optimizer: Optional[Optimizer] = None,
) -> None:
    """Give a module as it was built the sizes of a state dict that was saved
    after channels were removed. Sizes that differ otherwise are left to
    whoever loads the state.

    Example:
        >>> images = torch.randn(1, 3, 4, 4)
        >>> def build():
        ...     net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        ...     return net, mask_channels(net, images).masks['0']
        >>> (trained, mask), (net, _) = build(), build()
        >>> mask.prune(6)
        >>> _ = shrink_channels(trained, images)
        >>> fit_to_state(net, images, trained.state_dict())
        >>> net.load_state_dict(trained.state_dict())
        <All keys matched successfully>
    """
    if narrow_to_state(module, state, optimizer):
        link_masks(module, example_inputs)


@torch.no_grad()
def narrow_to_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    optimizer: Optional[Optimizer] = None,
) -> bool:
    """As :func:`fit_to_state`, of a module without masks.

    Returns:
        bool: Whether anything became smaller.

    Example:
        >>> narrow = nn.Sequential(nn.Conv2d(3, 2, 1))
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1))
        >>> narrow_to_state(net, narrow.state_dict())
        True
        >>> net.load_state_dict(narrow.state_dict())
        <All keys matched successfully>
    """
    present = layer_sizes(module)
    smaller = {
        name: size
        for name, size in sizes_in(module, state).items()
        if size != present[name]
        and len(size) == len(present[name])
        and all(0 < new <= old for new, old in zip(size, present[name]))
    }
    resize_layers(module, smaller, optimizer)
    return bool(smaller)
