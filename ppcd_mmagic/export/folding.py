"""What is constant in a graph is computed before it is written.

A norm in eval mode scales and shifts each channel by constants. They go into
the gains and biases of a conditional norm behind it (rows of an embedding, or
weights of a linear layer), or into the convolutions before it. Where neither
is possible, the norm stays.
"""

from typing import Callable, NamedTuple, Optional, cast

import torch
import torch.fx as fx
from torch import Tensor

from .nodes import arguments, constant, drop_unused, new_constant

_aten = torch.ops.aten
# those that have the channels of their output first in the weight, and
# second (of one group)
_FORWARD = (
    _aten.linear.default,
    _aten.conv1d.default,
    _aten.conv2d.default,
    _aten.conv3d.default,
    _aten.conv1d.padding,
    _aten.conv2d.padding,
    _aten.conv3d.padding,
)
_TRANSPOSED = (
    _aten.conv_transpose1d.default,
    _aten.conv_transpose2d.input,
    _aten.conv_transpose3d.input,
)
# (n, c) to (n, c, 1, 1): what keeps the order of the values
_VIEWS = (
    _aten.view.default,
    _aten.reshape.default,
    _aten.unsqueeze.default,
    _aten.slice.Tensor,
)


class _Affine(NamedTuple):
    """Channels times ``scale`` plus ``shift``, each (c, ), float64."""

    scale: Tensor
    shift: Tensor


class _Table(NamedTuple):
    """What gives an image's gains or biases, (n, c): the rows of an embedding,
    ``weight`` (classes, c), or a linear layer, ``weight`` (d, c); and what is
    added to them, ``offset`` (c, )."""

    target: Callable
    given: fx.Node
    weight: Tensor
    offset: Tensor


def fold_norms(graph: fx.GraphModule) -> int:
    """Fold norms with constant statistics into what is beside them, in place.

    Args:
        graph (fx.GraphModule): Of ATen's operators, as the ``module()`` of an
            exported program, whose nodes know the shapes of their values.

    Returns:
        int: How many norms are gone.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
        >>> program = torch.export.export(net, (torch.randn(2, 3, 16, 16),))
        >>> fold_norms(program.module())
        1
    """
    count = 0
    for node in list(graph.graph.nodes):
        if node.target is not _aten.batch_norm.default:
            continue
        affine = _constant_affine(graph, node)
        if affine is not None and (
            _into_condition(graph, node, affine)
            or _into_producer(graph, node, affine)
        ):
            count += 1
    drop_unused(graph)
    return count


def _constant_affine(graph: fx.GraphModule, norm: fx.Node) -> Optional[_Affine]:
    weight, bias, mean, variance, training, _, eps = arguments(norm)[1:8]
    mean, variance = (constant(graph, node) for node in (mean, variance))
    if training or mean is None or variance is None:
        return None
    scale = (variance + eps).rsqrt()
    shift = -mean * scale
    for node in (weight, bias):
        value = constant(graph, node)
        if node is not None and value is None:
            return None
        if node is weight and value is not None:
            scale, shift = scale * value, shift * value
        elif value is not None:
            shift = shift + value
    return _Affine(scale, shift)


def _only_user(node: fx.Node, target: Callable) -> Optional[fx.Node]:
    """The node that reads a value, if it is the only one and does ``target``
    without further options."""
    users = list(node.users)
    if len(users) != 1 or users[0].target is not target:
        return None
    (user,) = users
    ok = not user.kwargs and all(isinstance(a, fx.Node) for a in user.args)
    return user if ok and len(set(user.args)) == 2 else None


def _other(user: fx.Node, node: fx.Node) -> fx.Node:
    first, second = arguments(user)
    return second if first is node else first


def _shape(node: fx.Node) -> tuple:
    return tuple(node.meta['val'].shape)


def _into_condition(
    graph: fx.GraphModule, norm: fx.Node, affine: _Affine
) -> bool:
    """(x * scale + shift) * gain + bias, where gain and bias depend on the
    label alone, is x * (scale * gain) + (shift * gain + bias)."""
    mul = _only_user(norm, _aten.mul.Tensor)
    add = None if mul is None else _only_user(mul, _aten.add.Tensor)
    if mul is None or add is None:
        return False
    gain = _table(graph, _other(mul, norm), _shape(norm))
    bias = _table(graph, _other(add, mul), _shape(norm))
    if (
        gain is None
        or bias is None
        or gain.target is not bias.target
        or gain.given is not bias.given
    ):
        return False
    tables = dict(
        gain=gain._replace(
            weight=gain.weight * affine.scale, offset=gain.offset * affine.scale
        ),
        bias=bias._replace(
            weight=bias.weight + gain.weight * affine.shift,
            offset=bias.offset + gain.offset * affine.shift,
        ),
    )
    with graph.graph.inserting_before(add):
        new = {
            name: _computed(graph, table, f'{norm.name}_{name}', norm)
            for name, table in tables.items()
        }
        scaled = graph.graph.call_function(
            _aten.mul.Tensor, (norm.args[0], new['gain'])
        )
        shifted = graph.graph.call_function(
            _aten.add.Tensor, (scaled, new['bias'])
        )
    add.replace_all_uses_with(shifted)
    return True


def _table(
    graph: fx.GraphModule, node: fx.Node, shape: tuple
) -> Optional[_Table]:
    """What a value (n, c, 1, 1) is read from, None if that is not known."""
    if _shape(node) != (*shape[:2], *[1] * (len(shape) - 2)):
        return None
    offset: float = 0
    while node.target not in (_aten.embedding.default, _aten.linear.default):
        given, *options = arguments(node) or [None]
        if not isinstance(given, fx.Node) or 'val' not in given.meta:
            return None
        if node.target in _VIEWS:
            if given.meta['val'].numel() != node.meta['val'].numel():
                return None
        elif node.target is _aten.add.Tensor and not node.kwargs:
            if not isinstance(options[0], (int, float)):
                return None
            offset += options[0]
        else:
            return None
        node = given
    if node.kwargs or _shape(node) != shape[:2]:
        return None
    first, second, *rest = arguments(node)
    if node.target is _aten.embedding.default:
        weight, source, added = constant(graph, first), second, None
        if rest:
            return None
    else:
        weight, source = constant(graph, second), first
        added = rest[0] if rest else None
        weight = None if weight is None else weight.T
    if weight is None:
        return None
    offsets = torch.full(shape[1:2], float(offset), dtype=torch.float64)
    if added is not None:
        summand = constant(graph, added)
        if summand is None:
            return None
        offsets = offsets + summand
    return _Table(node.target, source, weight, offsets)


def _computed(
    graph: fx.GraphModule, table: _Table, name: str, norm: fx.Node
) -> fx.Node:
    """The values of a table, (n, c, 1, 1)."""
    if table.target is _aten.embedding.default:
        weight = new_constant(graph, name, table.weight + table.offset, norm)
        value = graph.graph.call_function(table.target, (weight, table.given))
    else:
        weight = new_constant(graph, f'{name}_weight', table.weight.T, norm)
        offset = new_constant(graph, f'{name}_bias', table.offset, norm)
        value = graph.graph.call_function(
            table.target, (table.given, weight, offset)
        )
    for dim in range(2, len(_shape(norm))):
        value = graph.graph.call_function(_aten.unsqueeze.default, (value, dim))
    return value


def _into_producer(
    graph: fx.GraphModule, norm: fx.Node, affine: _Affine
) -> bool:
    """Into the layer whose output the norm alone reads, or into the two
    whose sum it reads."""
    given = arguments(norm)[0]
    if len(given.users) != 1:
        return False
    layers = [given]
    if given.target is _aten.add.Tensor:
        layers = arguments(given)
        if given.kwargs or len(set(layers)) != 2:
            return False
        if any(
            not isinstance(layer, fx.Node)
            or len(layer.users) != 1
            or _shape(layer) != _shape(norm)
            for layer in layers
        ):
            return False
    if not all(
        _is_scalable(graph, layer, len(affine.scale)) for layer in layers
    ):
        return False
    for layer in layers:
        _scale(graph, layer, affine, norm)
        affine = _Affine(affine.scale, torch.zeros_like(affine.shift))
    norm.replace_all_uses_with(given)
    return True


def _dimension(layer: fx.Node) -> int:
    """Of the output channels in a layer's weight."""
    return 1 if layer.target in _TRANSPOSED else 0


def _is_scalable(graph: fx.GraphModule, layer: fx.Node, channels: int) -> bool:
    if layer.kwargs or layer.target not in _FORWARD + _TRANSPOSED:
        return False
    _, weight, *rest = arguments(layer)
    value = constant(graph, weight)
    bias = rest[0] if rest else None
    return (
        value is not None
        # neither one sample alone, nor features of more than one place
        and value.dim() == len(_shape(layer))
        # of a transposed convolution in groups it is not
        and value.shape[_dimension(layer)] == channels
        and (bias is None or constant(graph, bias) is not None)
    )


def _scale(
    graph: fx.GraphModule, layer: fx.Node, affine: _Affine, norm: fx.Node
) -> None:
    given, weight, *rest = arguments(layer)
    value = cast(Tensor, constant(graph, weight))
    shape = [1] * value.dim()
    shape[_dimension(layer)] = -1
    bias = affine.shift
    if rest and rest[0] is not None:
        bias = bias + cast(Tensor, constant(graph, rest[0])) * affine.scale
    with graph.graph.inserting_before(layer):
        layer.args = (
            given,
            new_constant(
                graph,
                f'{layer.name}_weight',
                value * affine.scale.reshape(shape),
                norm,
            ),
            new_constant(graph, f'{layer.name}_bias', bias, norm),
            *rest[1:],
        )
