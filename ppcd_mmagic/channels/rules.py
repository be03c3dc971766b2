"""What layers and functions do to channels.

The one place that knows layers by type and functions by name. What is listed
nowhere here is opaque: its channels may be zeroed, never discarded.

A rule of a layer is called as ``rule(analysis, name, layer, cells)``, one of a
function as ``rule(analysis, call)`` with a
:class:`~ppcd_mmagic.channels.analysis.Call`; it returns the cells of the
output. ``register_rule`` adds one.
"""

import math
import operator
from typing import Any, Callable, Dict, Iterator, List, Optional, Type, Union

import torch
import torch.nn as nn
from torch import Tensor, fx
from torch.nn.modules.activation import (
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LogSigmoid,
    Mish,
    Softsign,
    Tanhshrink,
)
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.padding import (
    _ConstantPadNd,
    _ReflectionPadNd,
    _ReplicationPadNd,
)
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)
from torch.utils._pytree import tree_leaves

from . import computed_weights, hooks
from .widths import Widths, follow_widths, is_depthwise, set_widths

CONSTANT, INPUT = 0, 1  # see analysis

_LAYERS: Dict[Type[nn.Module], Callable] = {}
_FUNCTIONS: Dict[str, Callable] = {}
_FOLLOWERS: Dict[type, str] = {}


def register_rule(
    kind: Union[Type[nn.Module], str],
    rule: Callable,
    widths: Optional[Widths] = None,
) -> None:
    """Teach the channel library a layer or a function.

    Args:
        kind (type | str): A layer's class, or the name of a function or
            method as ``torch`` calls it. Subclasses follow unless they have a
            forward of their own.
        rule (Callable): What it does: one of :func:`same`,
            :func:`channelwise`, :func:`pooled`, :func:`mixes`,
            :func:`convolution`, :func:`linear`, :func:`embedding`, or your
            own (see the module's head).
        widths (Widths, optional): Where the layer keeps its channels.

    Example:
        >>> class ScaledNorm(nn.Module):  # a gain for every channel
        ...     def __init__(self, channels):
        ...         super().__init__()
        ...         self.channels = channels
        ...         self.gain = nn.Parameter(torch.ones(channels))
        ...     def forward(self, x):
        ...         spread = (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
        ...         return x / spread * self.gain.view(1, -1, 1, 1)
        >>> register_rule(ScaledNorm, channelwise, Widths(
        ...     dict(gain=0), sizes=dict(outputs=('channels', ))))
    """
    if isinstance(kind, str):
        _FUNCTIONS[kind] = rule
    else:
        _LAYERS[kind] = rule
        if widths is not None:
            set_widths(kind, widths)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is recorded as a single call."""
    inside = type(module).__module__
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    return (
        rule_of(module) is not None
        or inside.startswith('torch.nn.')
        and not isinstance(module, containers)
        or isinstance(module, (_ConvNd, nn.Linear, nn.Embedding))
    )


def rule_of(layer: nn.Module) -> Optional[Callable]:
    """The rule of a layer: that of its class, or of a parent whose forward it
    has."""
    if 'forward' in vars(layer):  # replaced on this one
        return None
    for kind in type(layer).__mro__:
        if kind in _LAYERS:
            return _LAYERS[kind] if _computes_as(type(layer), kind) else None
    return None


# what a subclass may have of its own and compute the same
_HARMLESS = frozenset(
    '__init__ __new__ __doc__ __module__ __qualname__ __annotations__ '
    '__annotate__ __annotate_func__ __firstlineno__ __static_attributes__ '
    '__constants__ __dict__ __weakref__ __slots__ __repr__ __getstate__ '
    '__setstate__ __deepcopy__ __reduce__ __reduce_ex__ extra_repr '
    'reset_parameters _check_input_dim _get_no_batch_dim _version '
    '_load_from_state_dict '
    '_save_to_state_dict __parameters__ __orig_bases__ cls_to_become'.split()
)


def _computes_as(kind: Type[nn.Module], known: Type[nn.Module]) -> bool:
    """Whether a class has the forward of a parent, and whatever it calls."""
    if kind.forward is not known.forward:
        return False
    between = kind.__mro__[: kind.__mro__.index(known)]
    if kind.__mro__[0] in _LAYERS or not between:
        return True
    own = {
        name
        for each in between
        for name, value in vars(each).items()
        if hasattr(known, name) or isinstance(value, property)
    }
    if hasattr(kind, 'parametrizations') or between[0].__name__.startswith(
        'Parametrized'
    ):  # weights that are known to be computed
        own.discard('weight')
        own.discard('bias')
    return own <= _HARMLESS


def followers(module: nn.Module) -> Iterator[str]:
    """Convolutions that only add to the channels of what they read, by
    name."""
    for name, child in module.named_modules():
        for kind, path in _FOLLOWERS.items():
            if isinstance(child, kind):
                yield f'{name}.{path}' if name else path


# names of arguments that torch takes for the sake of NumPy
_AS_TORCH = dict(axis='dim', keepdims='keepdim')


def apply(analysis, call) -> Any:
    """The cells that come out of a call."""
    if call.node.op == 'call_module':
        layer = analysis.layer(call.name)
        rule = rule_of(layer)
        if call.name in analysis.shared:
            return analysis.opaque(analysis.shared[call.name])
        if hooks.unknown_on(layer):
            return analysis.opaque(f'{call.name} has a hook that is not known')
        if (
            rule is None
            or call.kwargs
            or len(call.args) != 1
            or (call.shape is None)
            or not torch.is_tensor(call.args[0])
        ):
            _pin_numbers(analysis, (call.args, call.kwargs), call.name)
            return analysis.opaque(
                f'{type(layer).__name__} {call.name} reads it in a way that '
                'is not known'
            )
        return rule(analysis, call.name, layer, call.args[0])
    rule = _FUNCTIONS.get(call.name)
    call = call._replace(
        kwargs={_AS_TORCH.get(k, k): v for k, v in call.kwargs.items()}
    )
    if rule not in (viewed, expanded, indexed, split) or not call.args:
        _pin_numbers(analysis, (call.node.args, call.node.kwargs), call.name)
    if not analysis.inputs():  # made of nothing: random numbers, zeros
        return torch.full([1] * len(call.shape), INPUT)
    if rule is None:
        return analysis.opaque(f'{call.name}() reads it, which is not known')
    if not call.args:
        return analysis.opaque(f'{call.name}() reads it by keyword')
    if call.kwargs.get('out') is not None:
        return analysis.opaque(f'{call.name}() writes it into another tensor')
    cells = rule(analysis, call)
    if call.shape is None and torch.is_tensor(cells):
        return analysis.opaque(f'{call.name}() makes several of it')
    return cells


def _pin_numbers(analysis, value: Any, name: str) -> None:
    """Whatever is counted by a number that is used in a way in which it need
    not follow what it is used on."""
    for leaf in tree_leaves(value):
        if isinstance(leaf, slice):
            _pin_numbers(analysis, (leaf.start, leaf.stop, leaf.step), name)
        for source in getattr(leaf, 'sources', ()):
            analysis.pin_source(source, f'its number is used by {name}()')


# -- layers


def same(analysis, name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Acts on every element by itself."""
    return x


def channelwise(analysis, name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Keeps channels (dimension 1) apart, and has entries for each."""
    if isinstance(layer, _InstanceNorm) and _lacks_batch(
        type(layer).__name__, x
    ):
        return analysis.opaque(f'{name} runs without a batch')
    return _behind_norm(analysis, _with_entries(analysis, name, x))


def _behind_norm(analysis, x: Tensor) -> Tensor:
    normed = [
        analysis.cells.norm(cell) if _has_one_score(analysis, cell) else cell
        for cell in x.flatten().tolist()
    ]
    return torch.tensor(normed).view(x.shape)


def _has_one_score(analysis, cell: int) -> bool:
    """Whether a norm undoes the gates on all that writes a channel: of
    several, one may still outweigh another. All positions of a map that a
    linear layer writes have the same."""
    writers = analysis.cells.writers[cell]
    layers = {name for name, _ in writers}
    return len(writers) == 1 or (
        len(layers) == 1 and isinstance(analysis.layer(*layers), nn.Linear)
    )


def _with_entries(analysis, name: str, x: Tensor) -> Tensor:
    """For a layer with entries for each channel."""
    x = analysis.per_channel(x)
    size = analysis.node.meta['shape'][1]
    analysis.hold(name, 'outputs', analysis.along(x, 1, size))
    return x


def pooled(analysis, name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Works inside of each channel: pooling, resizing, padding of maps."""
    if _lacks_batch(type(layer).__name__, x):
        return analysis.opaque(f'{name} runs without a batch')
    return analysis.per_channel(x)


def _lacks_batch(name: str, x: Tensor) -> bool:
    """Whether what is named by its dimensions (MaxPool2d) gets fewer, so
    that channels are not where they are thought."""
    return any(f'{rank}d' in name and x.ndim != rank + 2 for rank in (1, 2, 3))


def mixes(analysis, name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Computes each channel from all of them."""
    return analysis.opaque(
        f'{type(layer).__name__} {name} reads it over all channels'
    )


def prelu(analysis, name: str, layer: nn.PReLU, x: Tensor) -> Tensor:
    """One slope for all, or one for each channel."""
    if layer.num_parameters == 1:
        return x
    return _with_entries(analysis, name, x)


def group_norm(analysis, name: str, layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """Whole groups leave, and a channel of a group that stays carries the
    others of it."""
    size = analysis.node.meta['shape'][1]
    cells = analysis.along(analysis.per_channel(x), 1, size)
    groups = cells.view(layer.num_groups, -1).tolist()
    for group in groups:
        analysis.cells.join(group)
    if any(cell <= INPUT for cell in cells.tolist()):
        analysis.cells.pin(cells, f'GroupNorm {name} mixes it with the input')
    if not layer.affine:  # and its groups would be as many as before
        analysis.cells.pin(
            cells, f'no weight tells the width of GroupNorm {name}'
        )
    analysis.hold(name, 'outputs', cells)
    mixed = [
        analysis.cells.sum(tuple(group)) if len(set(group)) > 1 else group[0]
        for group in groups
        for _ in group
    ]
    return torch.tensor(mixed).view([1, -1] + [1] * (x.ndim - 2))


def convolution(analysis, name: str, layer: _ConvNd, x: Tensor) -> Tensor:
    """Reads all channels of its group and writes its own; a depthwise one
    without a mask passes channels on."""
    if x.ndim != len(layer.kernel_size) + 2:
        return analysis.opaque(f'{name} runs without a batch')
    inputs = analysis.along(analysis.per_channel(x), 1, layer.in_channels)
    ahead = [1, -1] + [1] * (x.ndim - 2)
    if is_depthwise(layer) and name not in analysis.masked:
        analysis.hold(name, 'outputs', inputs)
        return inputs.view(ahead)
    # of a depthwise one inputs and outputs are the same entries
    analysis.read(name, inputs, holds=not is_depthwise(layer))
    outputs = analysis.write(name, layer.out_channels)
    if is_depthwise(layer):
        for cells in zip(inputs.tolist(), outputs.tolist()):
            analysis.cells.join(cells)
    elif layer.groups > 1:  # every group loses the same positions
        _join_parts(analysis, inputs, layer.groups)
        _join_parts(analysis, outputs, layer.groups)
    return outputs.view(ahead)


def linear(analysis, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
    """Reads and writes along the last dimension."""
    if any(size > 1 for size in x.shape[:-1]):
        return analysis.opaque(f'{name} leaves its dimension as it is')
    analysis.read(name, analysis.along(x, -1, layer.in_features))
    outputs = analysis.write(name, layer.out_features)
    if x.ndim == 1:  # NNI cuts none of these
        for cells in (x, outputs):
            analysis.cells.pin(cells, f'{name} runs without a batch')
    return outputs.view([1] * (x.ndim - 1) + [-1])


def embedding(analysis, name: str, layer: nn.Embedding, x: Tensor) -> Tensor:
    """Writes along the last dimension; its rows always stay."""
    outputs = analysis.write(name, layer.embedding_dim)
    if layer.max_norm is not None:
        analysis.cells.pin(outputs, f'{name} limits the norm of whole rows')
    return outputs.view([1] * x.ndim + [-1])


def pixel_shuffle_layer(
    analysis, name: str, layer: nn.Module, x: Tensor
) -> Tensor:
    """Pixel shuffle: the r * r channels of one leave together."""
    return _shuffled(analysis, layer)


def reshaping_layer(analysis, name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Moves elements about; run on the cells themselves."""
    (node,) = analysis.inputs()
    return analysis.squeeze(layer(analysis.full(node)))


# -- functions


def unary(analysis, call) -> Tensor:
    """Acts on every element of its first argument by itself."""
    if len(analysis.inputs()) > 1 or not torch.is_tensor(call.args[0]):
        return analysis.opaque(f'{call.name}() of several tensors reads it')
    return call.args[0]


def drawn(analysis, call) -> Tensor:
    """As many random numbers as there are elements: with fewer, others."""
    return analysis.opaque(f'{call.name}() draws random numbers for it')


def dropped_out(analysis, call) -> Tensor:
    """Nothing, but where it is told that this is training."""
    training = call.kwargs.get(
        'training', call.args[2] if len(call.args) > 2 else True
    )
    return drawn(analysis, call) if training else unary(analysis, call)


def made_new(analysis, call) -> Tensor:
    """A constant, whose sizes are numbers of the source."""
    return torch.full([1] * len(call.shape), CONSTANT)


def first_of(analysis, call) -> Tensor:
    """Takes no more than type and shape of its other arguments."""
    return call.args[0]


def added(analysis, call) -> Tensor:
    """A sum: a channel is closed where all operands are."""
    return _elementwise(analysis, analysis.cells.sum, biases=True)


def multiplied(analysis, call) -> Tensor:
    """A product: a channel is closed where any factor is, so what gates a
    channel (squeeze and excitation) follows it."""
    return _elementwise(analysis, analysis.cells.product)


def united(analysis, call) -> Tensor:
    """Any other function of several tensors: closed where all are."""
    return _elementwise(analysis, analysis.cells.sum)


def _elementwise(analysis, unite: Callable, biases: bool = False) -> Tensor:
    nodes = analysis.inputs()
    if len(nodes) == 1:
        return analysis.of(nodes[0])
    shape = analysis.node.meta['shape']
    rank = len(shape)
    shapes = [
        [1] * (rank - len(s)) + list(s)
        for s in (node.meta['shape'] for node in nodes)
    ]
    values = [
        analysis.of(node).reshape(
            [1] * (rank - analysis.of(node).ndim)
            + list(analysis.of(node).shape)
        )
        for node in nodes
    ]
    # positions of a map that leave as one are no channels of their own
    atoms = [analysis.atoms_of(value) for value in values]
    varies = [d for d in range(rank) if any(a.shape[d] > 1 for a in atoms)]
    # one value for many channels: it does not leave with any of them
    narrow = [any(s[d] == 1 for d in varies) for s in shapes]
    bias = [biases and _is_bias(s, shape) for s in shapes]
    for value, is_narrow in zip(values, narrow):
        if is_narrow:
            analysis.cells.pin(value, 'one value of it meets many channels')
    grid = torch.broadcast_tensors(*values)
    pairs, inverse = torch.stack([cells.flatten() for cells in grid], 1).unique(
        dim=0, return_inverse=True
    )
    out = []
    for pair in pairs.tolist():
        pair = [
            analysis.cells.as_bias(c)
            if is_bias and analysis.cells.opened[c]
            else c
            for c, is_bias in zip(pair, bias)
        ]
        leaving = tuple(c for c, fixed in zip(pair, narrow) if not fixed)
        out.append(unite(tuple(pair), leaving))
    return analysis.squeeze(torch.tensor(out)[inverse].view(grid[0].shape))


def _is_bias(shape: List[int], out: tuple) -> bool:
    """Whether an addend is one value for each whole feature map."""
    return (
        len(out) > 2
        and all(s == 1 for s in shape[2:])
        and any(s > 1 for s in out[2:])
    )


def pooling(analysis, call) -> Tensor:
    """Works inside of each channel (dimension 1)."""
    if (
        not torch.is_tensor(call.args[0])
        or call.args[0].ndim < 3
        or _lacks_batch(call.name, call.args[0])
    ):
        return analysis.opaque(f'{call.name}() of no feature map reads it')
    return analysis.per_channel(call.args[0])


def padded(analysis, call) -> Tensor:
    """Padding of maps; one of the channels themselves is not known."""
    x = call.args[0]
    sizes = call.args[1] if len(call.args) > 1 else call.kwargs['pad']
    touched = range(x.ndim - len(sizes) // 2, x.ndim)
    if any(x.shape[d] > 1 for d in touched):
        return analysis.opaque('pad() changes its number')
    return x


def reduced(analysis, call) -> Tensor:
    """Over dimensions in which channels do not vary."""
    x = call.args[0]
    dims = call.kwargs.get('dim', call.args[1] if len(call.args) > 1 else None)
    if (
        len(analysis.inputs()) > 1
        or call.shape is None
        or isinstance(dims, bool)
    ):
        return analysis.opaque(
            f'{call.name}() reads it in a way that is not known'
        )
    # of no dimensions it is of all
    dims = _dimensions(x, None if dims in ((), []) else dims)
    if any(x.shape[d] > 1 for d in dims):
        return analysis.opaque(f'{call.name}() over all channels reads it')
    if len(call.shape) < x.ndim:
        for d in sorted(dims, reverse=True):
            x = x.squeeze(d)
    return x


def normed(analysis, call) -> Tensor:
    """A norm over dimensions in which channels do not vary."""
    x, dim = call.args[0], call.kwargs.get('dim')
    if dim is None or len(analysis.inputs()) > 1:
        return analysis.opaque(f'{call.name}() over all channels reads it')
    return reduced(analysis, call._replace(args=(x, dim)))


def normalized(analysis, call) -> Tensor:
    """Along one dimension (softmax), where channels do not vary in it."""
    x = call.args[0]
    dim = call.kwargs.get('dim', call.args[1] if len(call.args) > 1 else None)
    if dim is None or x.shape[dim] > 1:
        return analysis.opaque(f'{call.name}() over all channels reads it')
    return x


def instance_normed(analysis, call) -> Tensor:
    """Each map by itself, without entries for each channel."""
    x = call.args[0]
    if len(analysis.inputs()) > 1 or x.ndim < 3:
        return analysis.opaque(f'{call.name}() of several tensors reads it')
    return _behind_norm(analysis, analysis.per_channel(x))


def scaled(analysis, call) -> Tensor:
    """Divided by a norm over dimensions in which channels do not vary."""
    x = call.args[0]
    dims = call.kwargs.get('dim', call.args[2] if len(call.args) > 2 else 1)
    if any(x.shape[d] > 1 for d in _dimensions(x, dims)):
        return analysis.opaque(f'{call.name}() over all channels reads it')
    return x


def gated(analysis, call) -> Tensor:
    """The first half of a dimension times what the second one gates it by."""
    dim = call.kwargs.get('dim', call.args[1] if len(call.args) > 1 else -1)
    return _gated_halves(analysis, dim)


def glu_layer(analysis, name: str, layer: nn.GLU, x: Tensor) -> Tensor:
    """As :func:`gated`."""
    return _gated_halves(analysis, layer.dim)


def _gated_halves(analysis, dim: int) -> Tensor:
    (node,) = analysis.inputs()
    halves = analysis.full(node).chunk(2, dim)
    pairs, inverse = torch.stack([h.flatten() for h in halves], 1).unique(
        dim=0, return_inverse=True
    )
    out = [analysis.cells.product(tuple(pair)) for pair in pairs.tolist()]
    return analysis.squeeze(torch.tensor(out)[inverse].view(halves[0].shape))


def moved(analysis, call) -> Any:
    """Moves elements about; run on the cells themselves."""
    return _run(analysis, call)


def squeezed(analysis, call) -> Tensor:
    """Without the dimensions of extent 1: one in which channels vary must not
    become one of these."""
    x = call.args[0]
    dims = call.kwargs.get('dim', call.args[1] if len(call.args) > 1 else None)
    for d in _dimensions(x, dims):
        if x.shape[d] > 1:
            analysis.keep_two(analysis.along(x, d, x.shape[d]))
    return _run(analysis, call)


def _dimensions(x: Tensor, dims: Any) -> List[int]:
    """Counted from the first; all where none are named."""
    if dims is None:
        return list(range(x.ndim))
    return [d % x.ndim for d in ([dims] if isinstance(dims, int) else dims)]


def joined(analysis, call) -> Tensor:
    """Concatenation, and stacking: what is put side by side has to lose the
    same positions in all other dimensions."""
    out = _run(analysis, call)
    dim = call.kwargs.get('dim', call.args[1] if len(call.args) > 1 else 0)
    atoms = analysis.atoms_of(out)
    vary = {d for d in range(out.ndim) if atoms.shape[d] > 1}
    if len(vary) > 1:
        for other in vary - {dim % out.ndim}:
            _join_slices(analysis, out, other)
    return out


def repeated(analysis, call) -> Tensor:
    """Several times the same, one after the other."""
    return _run(analysis, call)


def indexed(analysis, call) -> Any:
    """Indexing with slices; their ends must follow the channels."""
    source = call.args[0]
    if not torch.is_tensor(source):  # a part of several outputs
        _pin_numbers(analysis, call.args[1], 'indexing')
        return (
            source[call.args[1]]
            if call.shape is not None or isinstance(source, (tuple, list))
            else analysis.opaque('it is unknown')
        )
    index = call.node.args[1]
    if any(isinstance(x, fx.Node) for x in tree_leaves(index)):
        return analysis.opaque('indexing by a tensor reads it')
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(x, list) for x in index):  # colours the other way round
        _pin_numbers(analysis, call.node.args[1], 'indexing')
        analysis.cells.pin(source, 'fixed ones are picked out of it')
        return _run(analysis, call)
    if any(x is Ellipsis for x in index):
        missing = source.ndim - sum(x is not None for x in index) + 1
        at = next(i for i, x in enumerate(index) if x is Ellipsis)
        index = index[:at] + (slice(None),) * missing + index[at + 1 :]
    atoms = analysis.atoms_of(source)
    for dim, part in enumerate(x for x in index if x is not None):
        if atoms.shape[dim] == 1:
            _pin_numbers(analysis, part, 'indexing')
        else:
            reason = _slice_reason(analysis, call, dim, part)
            if reason:
                analysis.cells.pin(source, reason)
    return _run(analysis, call)


def _slice_reason(analysis, call, dim: int, part: Any) -> Optional[str]:
    """Why a slice pins what it is taken from, None if it does not."""
    if not isinstance(part, slice):
        _pin_numbers(analysis, part, 'indexing')
        return 'a fixed one is picked out of it'
    if part.step is not None and (type(part.step) is not int or part.step != 1):
        _pin_numbers(analysis, part, 'indexing')
        return 'a slice with fixed ends is taken of it'
    node = analysis.inputs()[0]
    size = node.meta['shape'][dim]
    cells = analysis.along(analysis.full(node), dim, size)
    ends = (part.start, part.stop)
    given = [end for end in ends if end is not None and int(end) != 0]
    # what is ahead of an end may be just what it counts, as behind a
    # concatenation
    if all([analysis.measures(end, cells[: int(end)]) for end in given]):
        return None
    # each is looked at: one that follows something else pins that
    if not all([analysis.follows(end, analysis.of(node)) for end in given]):
        return 'a slice with fixed ends is taken of it'
    # ends in proportion to the channels stay where they are only if every
    # part loses as many
    start, stop, _ = part.indices(size)
    length = stop - start
    if length < 1 or size % length or start % length:
        return 'an uneven slice is taken of it'
    _join_parts(analysis, cells, size // length)
    return None


def _join_parts(analysis, cells: Tensor, parts: int) -> None:
    """Let the same positions of equal parts leave together."""
    for same_place in zip(*cells.view(parts, -1).tolist()):
        analysis.cells.join(same_place)


def split(analysis, call) -> Any:
    """Equal parts of what varies lose the same positions; parts of several
    sizes stay where these do not count them."""
    source = call.node.args[0]
    x = call.args[0]
    size = call.args[1] if len(call.args) > 1 else _size_of_parts(call.kwargs)
    dim = call.kwargs.get('dim', call.args[2] if len(call.args) > 2 else 0)
    out = _run(analysis, call)
    shapes = {part.meta['shape'] for part in call.node.users}
    varies = analysis.atoms_of(x).shape[dim] > 1
    if not varies or call.name == 'chunk':
        _pin_numbers(analysis, size, call.name)
    if not varies:
        return out
    if isinstance(size, (tuple, list)):
        for number, part in zip(size, out):
            cells = analysis.along(part, dim, int(number))
            if not analysis.measures(number, cells):
                _pin_numbers(analysis, number, call.name)
                analysis.cells.pin(cells, 'it is split in parts of fixed sizes')
    elif call.name == 'split' and not analysis.follows(size, x):
        analysis.cells.pin(x, 'it is split in parts of a fixed size')
    elif len(shapes) > 1 or source.meta['shape'][dim] % len(out):
        analysis.cells.pin(x, 'it is split unevenly')
    else:
        cells = analysis.along(x, dim, source.meta['shape'][dim])
        _join_parts(analysis, cells, len(out))
    return out


def _size_of_parts(given: dict) -> Any:
    """By any of the names that torch has for it."""
    names = ('split_size_or_sections', 'split_size', 'chunks')
    return next((given[name] for name in names if name in given), None)


def viewed(analysis, call) -> Tensor:
    """Views, whose sizes must follow the channels."""
    sizes = _sizes(call)
    if not all(isinstance(size, int) for size in sizes):
        return analysis.opaque('a view as another type reads it')
    before, out = call.args[0], _run(analysis, call)
    free = [
        d
        for d, size in enumerate(sizes)
        if int(size) == -1 or analysis.follows(size, before)
    ]
    vary = [d for d in range(out.ndim) if out.shape[d] > 1]
    splits = len(vary) > sum(size > 1 for size in before.shape)
    if not splits and set(vary) <= set(free):
        free = vary
    else:
        parts = _parts_of_one(analysis, before, call.shape)
        free = [d for d in free if d in parts]
        _split_up(analysis, before, out, free, splits)
    for d in set(range(out.ndim)) - {*vary, *free}:
        _pin_numbers(analysis, sizes[d], call.name)
    return out


def _split_up(
    analysis, before: Tensor, out: Tensor, free: List[int], splits: bool
) -> None:
    """A view of one dimension as several: where a single one of these is not
    of a fixed size, what lies at one index of it leaves together."""
    if len(free) == 1:
        _join_slices(analysis, out, free[0])
    elif splits:
        analysis.cells.pin(before, 'a view splits it up')
    else:
        analysis.cells.pin(before, 'a view of fixed size is taken of it')


def _sizes(call) -> tuple:
    """Of a view, which takes them one by one or as one tuple."""
    sizes = call.args[1:] or tuple(call.kwargs.values())
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        return tuple(sizes[0])
    return sizes


def _parts_of_one(analysis, before: Tensor, after: tuple) -> range:
    """The dimensions of a view that the one in which channels vary became
    (features as maps); none where they vary in several.

    Extents of 1 beside them are of it as well (where one channel is left),
    but for as many as were there before.
    """
    shape = analysis.inputs()[0].meta['shape']
    vary = [d for d in range(before.ndim) if before.shape[d] > 1]
    if len(vary) != 1:
        return range(0)
    (dim,) = vary
    starts = _ends(after, 0, math.prod(shape[:dim]))
    if not starts:
        return range(0)
    start = min(starts[0] + _ones(shape[:dim][::-1]), starts[-1])
    stops = _ends(after, start, shape[dim])
    if not stops:
        return range(0)
    return range(start, max(stops[-1] - _ones(shape[dim + 1 :]), stops[0]))


def _ends(shape: tuple, start: int, size: int) -> List[int]:
    """Where dimensions that hold so many elements may end."""
    return [
        end
        for end in range(start, len(shape) + 1)
        if math.prod(shape[start:end]) == size
    ]


def _ones(shape: tuple) -> int:
    """How many extents of 1 come first."""
    return next((i for i, size in enumerate(shape) if size != 1), len(shape))


def _join_slices(analysis, cells: Tensor, dim: int) -> None:
    """Let what lies at one index of a dimension leave together."""
    for slice_ in cells.unbind(dim):
        analysis.cells.join(slice_.unique().tolist())


def expanded(analysis, call) -> Tensor:
    """The same for all indices of a dimension; numbers of channels must
    follow those that vary in it."""
    sizes = _sizes(call)
    if not all(isinstance(size, int) for size in sizes):
        return analysis.opaque('expand() by tensors reads it')
    out = _run(analysis, call)
    for d, size in enumerate(sizes):
        if out.shape[d] == 1:
            _pin_numbers(analysis, size, call.name)
        elif int(size) != -1 and not analysis.follows(size, out):
            analysis.cells.pin(
                call.args[0], 'a view of fixed size is taken of it'
            )
    return out


def expanded_as(analysis, call) -> Tensor:
    """As large as another tensor: of what varies in either, the same leaves
    of both."""
    x, other = (*call.args, *call.kwargs.values())[:2]
    out = _run(analysis, call)
    atoms = [analysis.atoms_of(cells) for cells in (out, other)]
    for d, size in enumerate(call.shape):
        varies = [each.shape[d] > 1 for each in atoms]
        if all(varies):
            for cells in zip(
                *(analysis.along(c, d, size).tolist() for c in (out, other))
            ):
                analysis.cells.join(cells)
        elif any(varies):
            analysis.cells.pin(
                out if varies[0] else other,
                'a view of fixed size is taken of it',
            )
    return out


# where functions that rearrange along dimensions take them: argument and name
_ALONG = dict(
    unbind=(1, 'dim', 0),
    select=(1, 'dim', None),
    narrow=(1, 'dim', None),
    unflatten=(1, 'dim', None),
    roll=(2, 'dims', None),
    repeat_interleave=(2, 'dim', None),
)


def rearranged(analysis, call) -> Any:
    """Rearrangements whose arguments need not follow the channels."""
    if len(analysis.inputs()) > 1:
        return analysis.opaque(f'{call.name}() by a tensor reads it')
    x = call.args[0]
    place, name, default = _ALONG[call.name]
    dims = call.args[place] if len(call.args) > place else default
    dims = call.kwargs.get(name, dims)
    if any(
        x.shape[d] > 1 for d in _dimensions(x, None if dims == () else dims)
    ):
        analysis.cells.pin(x, f'{call.name}() rearranges it')
    return _run(analysis, call)


def shuffled(analysis, call) -> Tensor:
    """Pixel shuffle: the r * r channels of one leave together."""
    return _shuffled(
        analysis, lambda x: _call(call)(x, *call.args[1:], **call.kwargs)
    )


def _shuffled(analysis, run: Callable) -> Tensor:
    node = analysis.inputs()[0]
    if len(node.meta['shape']) != 4:
        return analysis.opaque('a pixel shuffle without a batch reads it')
    out = run(analysis.full(node))
    cells = analysis.along(out, 1, out.shape[1])
    return cells.view([1, -1] + [1] * (out.ndim - 2))


def _call(call) -> Callable:
    if call.node.op == 'call_function':
        return call.node.target
    if call.name == 'view':
        # cells may lie in another order in memory than the values
        return lambda x, *args, **kwargs: x.reshape(*args, *kwargs.values())
    return lambda x, *args, **kwargs: getattr(x, call.name)(*args, **kwargs)


def _run(analysis, call) -> Any:
    """Run a call on the cells themselves."""
    args, kwargs = (
        fx.map_arg(value, analysis.full)
        for value in (call.node.args, call.node.kwargs)
    )
    out = _call(call)(*args, **kwargs)
    if torch.is_tensor(out):
        return analysis.squeeze(out)
    return tuple(analysis.squeeze(part) for part in out)


# -- the lists


def _kinds(rule: Callable, kinds: List[type]) -> None:
    for kind in kinds:
        register_rule(kind, rule)


_kinds(
    same,
    [
        nn.Identity,
        _DropoutNd,
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.CELU,
        SELU,
        GELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.Tanh,
        Hardswish,
        Hardsigmoid,
        Hardtanh,
        nn.Softplus,
        Mish,
        Softsign,
        Tanhshrink,
        LogSigmoid,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.AlphaDropout,
    ],
)
_kinds(
    channelwise,
    [
        _BatchNorm,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.SyncBatchNorm,
        _InstanceNorm,
    ],
)
_kinds(
    pooled,
    [
        nn.Upsample,
        _MaxPoolNd,
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.MaxPool3d,
        _AvgPoolNd,
        nn.AvgPool1d,
        nn.AvgPool2d,
        nn.AvgPool3d,
        _AdaptiveAvgPoolNd,
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        _AdaptiveMaxPoolNd,
        nn.AdaptiveMaxPool1d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveMaxPool3d,
        _ReflectionPadNd,
        _ReplicationPadNd,
        _ConstantPadNd,
    ],
)
_kinds(
    convolution,
    [
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    ],
)
register_rule(nn.LayerNorm, mixes)
register_rule(nn.PReLU, prelu)
register_rule(nn.GLU, glu_layer)
register_rule(nn.GroupNorm, group_norm)
register_rule(nn.Linear, linear)
register_rule(nn.Embedding, embedding)
register_rule(nn.PixelShuffle, pixel_shuffle_layer)
register_rule(nn.PixelUnshuffle, reshaping_layer)
register_rule(nn.Flatten, reshaping_layer)


def _names(rule: Callable, names: str) -> None:
    for name in names.split():
        register_rule(name, rule)


_names(
    unary,
    'relu relu_ relu6 leaky_relu leaky_relu_ elu selu celu gelu silu '
    'mish sigmoid sigmoid_ tanh tanh_ hardtanh hardswish hardsigmoid softplus '
    'softsign exp log sqrt rsqrt abs neg pow sin cos clamp clamp_ clip '
    'to type float half double bfloat16 contiguous clone '
    'detach square reciprocal sign erf log_sigmoid',
)
_names(drawn, 'rand_like randn_like')
_names(dropped_out, 'dropout dropout2d')
_names(first_of, 'type_as zeros_like ones_like')
_names(
    added,
    'add add_ sub sub_ rsub __rsub__ __radd__ __add__ __sub__ '
    '__iadd__ __isub__',
)
_names(multiplied, 'mul mul_ __mul__ __rmul__ __imul__')
_names(
    united,
    'div div_ true_divide __truediv__ __rtruediv__ __rdiv__ '
    '__itruediv__ maximum minimum where lerp',
)
_names(united, 'gt ge lt le eq ne __eq__ __ne__')
_names(instance_normed, 'instance_norm')
_names(scaled, 'normalize')
_names(gated, 'glu')
_names(expanded_as, 'expand_as')
_names(made_new, 'new_zeros new_ones new_full new_empty')
_names(
    pooling,
    'interpolate upsample max_pool2d avg_pool2d max_pool1d '
    'avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d',
)
_names(reduced, 'mean sum std var amax amin')
_names(normed, 'norm linalg_norm linalg_vector_norm')
_names(normalized, 'softmax log_softmax')
_names(
    moved,
    'flatten unsqueeze permute transpose swapaxes movedim pixel_unshuffle flip',
)
_names(squeezed, 'squeeze')
_names(joined, 'cat concat concatenate stack')
_names(repeated, 'repeat')
_names(split, 'chunk split')
_names(viewed, 'view reshape')
_names(expanded, 'expand')
_names(rearranged, 'unbind select narrow roll repeat_interleave unflatten')
register_rule('pixel_shuffle', shuffled)
register_rule('pad', padded)
register_rule(operator.getitem.__name__, indexed)


def _register_mmagic() -> None:
    """Layers of MMCV and MMagic that have a forward of their own or compute
    their weights, and their self-attention: what its last convolution writes
    is only added."""
    from mmagic.models.editors.biggan.biggan_modules import SelfAttentionBlock
    from mmagic.models.editors.biggan.biggan_snmodule import (
        SNConv2d,
        SNEmbedding,
        SNLinear,
    )
    from mmagic.models.editors.pggan.pggan_modules import EqualizedLR
    from mmcv.cnn.bricks import wrappers

    for kind in (SNConv2d, wrappers.Conv2d, wrappers.ConvTranspose2d):
        register_rule(kind, convolution)
    for kind in (SNLinear, wrappers.Linear):
        register_rule(kind, linear)
    register_rule(SNEmbedding, embedding)
    register_rule(wrappers.MaxPool2d, pooled)
    for kind in (SNConv2d, SNLinear, SNEmbedding):
        computed_weights.register_layer(kind, kind.sn_weight)
    computed_weights.register_hook(EqualizedLR, EqualizedLR.compute_weight)
    follow_widths(EqualizedLR, _keep_scale)
    _FOLLOWERS[SelfAttentionBlock] = 'o.conv'


def _keep_scale(hook: Any, before: torch.Size, after: torch.Size) -> None:
    """A learning rate that is equalized by the number of inputs (outputs)."""
    dim = 1 if hook.mode == 'fan_in' else 0
    hook.gain *= (after[dim] / before[dim]) ** 0.5


_register_mmagic()
