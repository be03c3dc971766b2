"""Changing the widths of single layers."""

from typing import (
    Callable,
    Dict,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.optim import Optimizer

from ppcd_mmagic.errors import PPCDError

Sizes = Dict[str, Tuple[int, ...]]


class Widths(NamedTuple):
    """Where a kind of layer keeps its channels.

    Attributes:
        outputs (dict): Dimension of the output channels, by the names of the
            tensors that have them.
        inputs (dict): The same for the input channels.
        sizes (dict): By side, the attributes that hold the numbers.

    Example:
        >>> Widths(dict(weight=0, bias=0), dict(weight=1)).inputs
        {'weight': 1}
    """

    outputs: Dict[str, int]
    inputs: Dict[str, int] = {}
    sizes: Dict[str, Tuple[str, ...]] = {}


# u0 is of ajbrock's spectral norm; where torch's keeps its vectors depends on
# how it was put on, see _vectors
_Attributes = Dict[str, Tuple[str, ...]]
_CONV: _Attributes = dict(outputs=('out_channels',), inputs=('in_channels',))
_LINEAR: _Attributes = dict(outputs=('out_features',), inputs=('in_features',))
_NORM = dict.fromkeys(('weight', 'bias', 'running_mean', 'running_var'), 0)
_WIDTHS: Dict[type, Widths] = {
    _ConvTransposeNd: Widths(dict(weight=1, bias=0), dict(weight=0), _CONV),
    _ConvNd: Widths(dict(weight=0, bias=0, u0=1), dict(weight=1), _CONV),
    nn.Linear: Widths(dict(weight=0, bias=0, u0=1), dict(weight=1), _LINEAR),
    nn.Embedding: Widths(
        dict(weight=1), sizes=dict(outputs=('embedding_dim',))
    ),
    _BatchNorm: Widths(_NORM, sizes=dict(outputs=('num_features',))),
    _InstanceNorm: Widths(_NORM, sizes=dict(outputs=('num_features',))),
    nn.GroupNorm: Widths(
        dict(weight=0, bias=0),
        sizes=dict(outputs=('num_channels', 'num_groups')),
    ),
    nn.PReLU: Widths(dict(weight=0), sizes=dict(outputs=('num_parameters',))),
}


def set_widths(kind: type, widths: Widths) -> None:
    """Say where a kind of layer (and its subclasses) keeps its channels."""
    _WIDTHS[kind] = widths


_FOLLOWING: Dict[type, Callable] = {}


def follow_widths(kind: type, change: Callable) -> None:
    """Hooks of this kind compute a weight by its shape: ``change(hook,
    before, after)`` gets the shapes that it had and has, and keeps the weight
    as it was."""
    _FOLLOWING[kind] = change


def widths_of(layer: nn.Module) -> Optional[Widths]:
    """Where a layer keeps its channels, None where that is not known."""
    return next(
        (_WIDTHS[kind] for kind in type(layer).__mro__ if kind in _WIDTHS), None
    )


def sizes_of(layer: nn.Module) -> Dict[str, Tuple[str, ...]]:
    """The attributes of a layer that hold its numbers of channels, by side."""
    widths = widths_of(layer)
    return widths.sizes if widths is not None else {}


def _known_widths(layer: nn.Module) -> Widths:
    widths = widths_of(layer)
    if widths is None:
        raise PPCDError(
            f'It is unknown where a {type(layer).__name__} keeps its '
            'channels: name its tensors with register_rule.'
        )
    return widths


# On a grouped convolution that was cut, for one of its groups may end up with a
# single channel: it is not depthwise for that, since a checkpoint that has lost
# groups tells nothing of how the others were built.
_KEEPS_GROUPS = 'keeps_groups'


def is_depthwise(layer: nn.Module) -> bool:
    """Whether every channel of a convolution sees itself alone."""
    return (
        isinstance(layer, _ConvNd)
        and 1 < layer.groups == layer.in_channels == layer.out_channels
        and not getattr(layer, _KEEPS_GROUPS, False)
    )


def tensors_of(layer: nn.Module, side: str) -> Dict[str, int]:
    """The tensors of a layer that have its channels, and where."""
    widths = _known_widths(layer)
    if is_depthwise(layer):  # what it adds does not go with what it reads
        dims = dict(weight=0)
        if side == 'outputs':
            dims['bias'] = 0
    else:
        dims = dict(getattr(widths, side))
    computed = _computed_from(layer)
    dims = {computed.get(name, name): dim for name, dim in dims.items()}
    return {
        name: dim
        for name, dim in dims.items()
        if tensor_of(layer, name) is not None
    }


def _computed_from(layer: nn.Module) -> Dict[str, str]:
    """Other names of what spectral norm computes a weight from, torch's old
    and new."""
    if hasattr(layer, 'weight_orig'):
        return dict(weight='weight_orig')
    if 'weight' in getattr(layer, 'parametrizations', {}):
        return dict(weight='parametrizations.weight.original')
    return {}


def _spectral_norms(layer: nn.Module) -> Iterator[Tuple[str, str, int]]:
    """Names of the left and right singular vector of each of torch's, old and
    new, and which dimension of the weight is the left one."""
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm) and hook.name == 'weight':
            yield 'weight_u', 'weight_v', hook.dim
    steps = getattr(layer, 'parametrizations', {})
    for number, step in enumerate(steps['weight'] if 'weight' in steps else ()):
        if isinstance(step, _SpectralNorm):
            ahead = f'parametrizations.weight.{number}.'
            yield f'{ahead}_u', f'{ahead}_v', step.dim


def _vectors(
    layer: nn.Module, side: str
) -> Iterator[Tuple[str, torch.Size, int]]:
    """The singular vectors that have the channels of a side: name, the shape
    that the vector was flattened from, and where the channels are in it."""
    name = _computed_from(layer).get('weight', 'weight')
    dim = tensors_of(layer, side).get(name)
    if dim is None:
        return
    shape = list(getattr(tensor_of(layer, name), 'shape'))  # noqa: B009
    for left, right, first in _spectral_norms(layer):
        if dim == first:
            yield left, torch.Size(shape[dim : dim + 1]), 0
        else:
            rest = torch.Size(shape[:first] + shape[first + 1 :])
            yield right, rest, dim - (dim > first)


def tensor_of(layer: nn.Module, name: str) -> Optional[Tensor]:
    """A tensor of a layer by its name, which may have dots; None if it has
    no such."""
    parent, _, own = name.rpartition('.')
    try:
        return getattr(layer.get_submodule(parent), own, None)
    except AttributeError:
        return None


def width(layer: nn.Module, side: str) -> int:
    """Number of channels on one side of a layer."""
    return getattr(layer, _known_widths(layer).sizes[side][0])


def keep_channels(
    layer: nn.Module,
    side: str,
    kept: Tensor,
    optimizer: Optional[Optimizer] = None,
) -> None:
    """Keep the given channels of a layer, in place.

    The singular vectors of spectral norm are cut alike. Of a grouped
    convolution all groups keep the same positions.

    Args:
        layer (nn.Module): One whose widths are known.
        side (str): 'outputs' or 'inputs'; of a depthwise convolution, where
            both are one, 'outputs'.
        kept (Tensor): Indices, in ascending order.
        optimizer (Optimizer, optional): Follows, with its state.
    """
    require_known_parametrization(layer)
    count, groups = width(layer, side), _groups(layer)
    before = getattr(layer, 'weight_orig', None)
    for name, shape, dim in list(_vectors(layer, side)):
        replace(
            layer,
            name,
            lambda value: _select(
                value.view(shape), dim, kept, count, groups
            ).flatten(),
        )
    for name, dim in tensors_of(layer, side).items():
        replace(
            layer,
            name,
            lambda value: _select(value, dim, kept, count, groups),
            optimizer,
        )
    _update_sizes(layer, side, count, len(kept))
    after = getattr(layer, 'weight_orig', None)
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        for hook in layer._forward_pre_hooks.values():
            if type(hook) in _FOLLOWING:
                _FOLLOWING[type(hook)](hook, before.shape, after.shape)
        layer.weight = after.detach()  # is computed from it


def require_known_parametrization(layer: nn.Module) -> None:
    """Refuse to narrow a layer whose weight is computed by who knows what."""
    for name, steps in getattr(layer, 'parametrizations', {}).items():
        for step in steps:
            if not isinstance(step, _SpectralNorm):
                raise PPCDError(
                    f'The {name} of a {type(layer).__name__} is computed by '
                    f'{type(step).__name__}, of which it is unknown where it '
                    'keeps channels: fold it (fold_computed_weights) before '
                    'channels are removed.'
                )


def _groups(layer: nn.Module) -> int:
    return 1 if is_depthwise(layer) else getattr(layer, 'groups', 1)


def _select(
    value: Tensor, dim: int, kept: Tensor, count: int, groups: int
) -> Tensor:
    """``index_select``, also where the tensor has the channels of one group
    only."""
    if value.shape[dim] != count:
        kept = kept[kept < count // groups]
    return value.index_select(dim, kept)


def _update_sizes(layer: nn.Module, side: str, before: int, after: int) -> None:
    if is_depthwise(layer):
        for name in ('groups', 'in_channels', 'out_channels'):
            setattr(layer, name, after)
        return
    if _groups(layer) > 1:
        setattr(layer, _KEEPS_GROUPS, True)
    for name in _known_widths(layer).sizes[side]:
        setattr(layer, name, getattr(layer, name) * after // before)


def replace(
    module: nn.Module,
    name: str,
    change: Callable[[Tensor], Tensor],
    optimizer: Optional[Optimizer] = None,
) -> None:
    """Change a parameter or buffer, its gradient, and what an optimizer keeps
    for it.

    A new parameter takes the place of the old one: autograd remembers the
    shape of a parameter for as long as any graph does.
    """
    parent, _, name = name.rpartition('.')
    module = module.get_submodule(parent)
    old = getattr(module, name)
    if not isinstance(old, nn.Parameter):
        setattr(module, name, change(old))
        return
    new = nn.Parameter(change(old.detach()).clone(), old.requires_grad)
    setattr(module, name, new)
    if old.grad is not None:  # of a step that takes several batches
        new.grad = change(old.grad)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group['params'] = [new if p is old else p for p in group['params']]
    if old in optimizer.state:
        optimizer.state[new] = {
            key: change(value) if _like(value, old) else value
            for key, value in optimizer.state.pop(old).items()
        }


def _like(value, parameter: nn.Parameter) -> bool:
    return torch.is_tensor(value) and value.shape == parameter.shape


def zero_channels(
    layer: nn.Module,
    side: str,
    dead: Tensor,
    optimizer: Optional[Optimizer] = None,
) -> None:
    """Set the weights of the given channels to zero, and what an optimizer
    keeps for them, so that they stay there.

    Args:
        layer, side, optimizer: See :func:`keep_channels`.
        dead (Tensor): Indices.
    """
    count = width(layer, side)
    for name, dim in tensors_of(layer, side).items():
        value = tensor_of(layer, name)
        if not isinstance(value, nn.Parameter):
            continue
        state = optimizer.state.get(value, {}) if optimizer else {}
        for tensor in (value.data, value.grad, *state.values()):
            if _like(tensor, value):
                _zero(layer, side, tensor, dim, dead, count)


def _zero(
    layer: nn.Module,
    side: str,
    tensor: Tensor,
    dim: int,
    dead: Tensor,
    count: int,
) -> None:
    if tensor.shape[dim] == count:
        tensor.index_fill_(dim, dead, 0)
        return
    # the channels of one group: group by group, along the other side
    per_group = tensor.shape[dim]
    other = 1 - dim
    groups = count // per_group
    rows = torch.arange(tensor.shape[other], device=tensor.device)
    group_of_row = rows * groups // tensor.shape[other]
    hit = torch.zeros(
        tensor.shape[other], per_group, dtype=torch.bool, device=tensor.device
    )
    for channel in dead.tolist():
        hit[group_of_row == channel // per_group, channel % per_group] = True
    tensor[hit if dim == 1 else hit.T] = 0


# -- sizes of whole models


def layer_sizes(model: nn.Module) -> Sizes:
    """Sizes of all that can be narrowed, by name: (outputs, inputs) of
    convolutions and linear layers, (outputs, ) of other layers, the shape of
    parameters and buffers that no such layer has by its kind.

    Example:
        >>> layer_sizes(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)))
        {'0': (8, 3), '1': (8,)}
    """
    sizes = {}
    for name, layer in model.named_modules():
        widths = widths_of(layer)
        if widths is not None:
            sizes[name] = tuple(
                width(layer, side)
                for side in ('outputs', 'inputs')
                if side in widths.sizes
            )
        prefix = name and f'{name}.'
        for own, tensor in _others(layer).items():
            sizes[prefix + own] = tuple(tensor.shape)
    return sizes


def _others(layer: nn.Module) -> Dict[str, Tensor]:
    """What a layer holds of its own beside the tensors of its kind, such as
    StyleGAN's running mean of w; of buffers those that a checkpoint has."""
    widths = widths_of(layer) or Widths({})
    computed = _computed_from(layer)
    known = {
        computed.get(name, name) for name in (*widths.outputs, *widths.inputs)
    }
    known.update(name for own in _spectral_norms(layer) for name in own[:2])
    held = {
        **dict(layer.named_parameters(recurse=False)),
        **{
            name: value
            for name, value in layer.named_buffers(recurse=False)
            if name not in layer._non_persistent_buffers_set
        },
    }
    return {
        name: value
        for name, value in held.items()
        if value.ndim and name not in known
    }


def sizes_in(model: nn.Module, state: Mapping[str, Tensor]) -> Sizes:
    """Sizes as :func:`layer_sizes` that the layers of ``model`` have in a
    state dict."""
    layers = dict(model.named_modules())
    sizes = {}
    for name, size in layer_sizes(model).items():
        if name not in layers:
            if name in state:
                sizes[name] = tuple(state[name].shape)
            continue
        found = _sizes_of_layer(layers[name], name, state)
        if found is not None:
            sizes[name] = found
    return sizes


def _sizes_of_layer(
    layer: nn.Module, name: str, state: Mapping[str, Tensor]
) -> Optional[tuple]:
    widths = _known_widths(layer)
    found = []
    for side in ('outputs', 'inputs'):
        if side not in widths.sizes:
            continue
        values = [
            (state[f'{name}.{key}'], own, dim)
            for own, dim in getattr(widths, side).items()
            for key in (f'{own}_orig', f'parametrizations.{own}.original', own)
            if f'{name}.{key}' in state
        ]
        if not values:
            return None
        value, own, dim = values[0]
        # a grouped kernel has the channels of one group on one side
        own = _computed_from(layer).get(own, own)
        held = tensor_of(layer, own)
        if held is None:  # of another kind of layer
            return None
        scale = width(layer, side) // held.shape[dim]
        found.append(value.shape[dim] * max(scale, 1))
    if is_depthwise(layer):
        found = [found[0]] * 2
    return tuple(found)


def resize_layers(
    model: nn.Module, sizes: Sizes, optimizer: Optional[Optimizer] = None
) -> None:
    """Give layers the sizes of :func:`layer_sizes`; the values kept are
    meaningless, weights are to be loaded afterwards.

    Raises:
        PPCDError: If a layer does not exist or is smaller than its size.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        >>> resize_layers(net, {'0': (2, 3), '1': (2,)})
        >>> net(torch.randn(1, 3, 4, 4)).shape
        torch.Size([1, 2, 4, 4])
    """
    present = layer_sizes(model)
    layers = dict(model.named_modules())
    for name, size in sizes.items():
        size = tuple(size)
        groups = _groups(layers[name]) if name in layers else 1
        if (
            name not in present
            or len(size) != len(present[name])
            or any(
                not (isinstance(new, int) and 0 < new <= old) or new % groups
                for new, old in zip(size, present[name])
            )
        ):
            raise PPCDError(
                f'Layer "{name}" of size {size} does not fit '
                f'{type(model).__name__}, which has '
                f'{present.get(name, "no such layer")}'
                f'{f" in {groups} groups" if groups > 1 else ""}.'
            )
        if size != present[name]:
            _resize(model, name, size, optimizer)


def _resize(
    model: nn.Module, name: str, size: tuple, optimizer: Optional[Optimizer]
) -> None:
    parent, _, own = name.rpartition('.')
    layer = model.get_submodule(parent)
    if own in layer._parameters or own in layer._buffers:
        replace(
            layer,
            own,
            # without the memory of the rest, which would be saved with it
            lambda value: value[tuple(map(slice, size))].clone(),
            optimizer,
        )
        return
    layer = model.get_submodule(name)
    device = next(model.parameters()).device
    sides = [
        s for s in ('outputs', 'inputs') if s in _known_widths(layer).sizes
    ]
    for side, count in zip(sides, size):
        if count != width(layer, side):
            kept = _leading(layer, side, count, device)
            keep_channels(layer, side, kept, optimizer)


def _leading(
    layer: nn.Module, side: str, count: int, device: torch.device
) -> Tensor:
    """The first channels, of every group alike."""
    groups = _groups(layer)
    per_group = width(layer, side) // groups
    first = torch.arange(per_group, device=device)[: count // groups]
    starts = torch.arange(groups, device=device) * per_group
    return (starts[:, None] + first).flatten()
