"""Run a module once and record what it executed.

A trace follows the source and fails where it branches on values; a recording
follows one execution, so it exists for whatever can be run. Only the path
that was taken is known, and the batch size is that of the example.
"""

import operator
import types
from contextlib import contextmanager
from copy import deepcopy
from math import prod
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple
from unittest.mock import patch

import torch
import torch.nn as nn
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ppcd_mmagic.errors import PPCDError
from .untouched import state_kept
from .widths import sizes_of


def by_position(args: tuple, kwargs: dict) -> Tuple[tuple, dict]:
    """Arguments of a function of torch, the first not by its name."""
    names = [name for name in ('input', 'tensors') if name in kwargs]
    if args or not names:
        return args, kwargs
    others = {k: v for k, v in kwargs.items() if k != names[0]}
    return (kwargs[names[0]],), others


class Counted(set):
    """Sources of numbers of which it is not known what becomes of them.

    Attributes:
        sums (list): Sources of what was added to each other, as pairs: a sum
            grows with its channels only if both addends do.
        is_over (bool): Whether the recording has ended. Numbers that a module
            has kept of it are plain ones from then on: in another recording
            they would be constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sums: List[Tuple[frozenset, frozenset]] = []
        self.is_over = False

    def copied(self) -> 'Counted':
        """What has been noted up to now."""
        copy = Counted()
        copy |= self
        copy.sums = list(self.sums)
        return copy


class Extent(int):
    """An integer that came from the shape of a tensor: it follows the
    channels, where a plain integer is a constant of the source.

    Sums, multiples and even parts follow them as well. Whatever else is done
    with it, such as comparing it, is not known to stay right with fewer
    channels, and is noted.

    Attributes:
        counted (Counted): Takes the sources of what is not known.
    """

    _sources: frozenset = frozenset()
    counted: Counted = Counted()

    @classmethod
    def of(cls, value: int, sources: frozenset, counted: Counted) -> 'Extent':
        extent = cls(value)
        extent._sources, extent.counted = sources, counted
        return extent

    @property
    def sources(self) -> frozenset:
        """The dimensions it came from: (name of the node, dimension); none
        when the recording is over."""
        return frozenset() if self.counted.is_over else self._sources

    def of_graph(self) -> 'Extent':
        """The same for a graph, which is read when the recording is over."""
        return Extent.of(int.__int__(self), self.sources, Counted())

    def __reduce__(self) -> tuple:
        """A copy is a plain number."""
        self.counted.update(self.sources)
        return int, (int.__int__(self),)


def _plain(value: Any) -> Any:
    """A plain number in place of an extent of a recording that is over."""
    if isinstance(value, Extent) and value.counted.is_over:
        return int.__int__(value)
    return value


def _proportional(name: str) -> Callable:
    function = getattr(operator, name.strip('_').removeprefix('r'))

    def method(self: Extent, other: Any) -> Any:
        other = _plain(other)
        if self.counted.is_over:
            pair = _plain(self), other
            return function(*(pair[::-1] if name[2] == 'r' else pair))
        out = getattr(int, name)(self, other)
        known = (
            isinstance(other, Extent)
            or type(other) is int
            and (other == 0 or 'add' not in name and 'sub' not in name)
        )
        if 'floordiv' in name:
            known = (
                name == '__floordiv__'
                and type(other) is int
                and other != 0
                and not int.__mod__(self, other)
            )
        if not known:
            self.counted.update(self.sources)
        elif isinstance(other, Extent) and ('add' in name or 'sub' in name):
            self.counted.sums.append((self.sources, other.sources))
        if type(out) is not int:
            return out
        return Extent.of(
            out, self.sources | getattr(other, 'sources', set()), self.counted
        )

    return method


def _counting(name: str) -> Callable:

    def method(self: Extent, *others: Any) -> Any:
        for value in (self, *others):
            if isinstance(value, Extent):
                value.counted.update(value.sources)
        return getattr(int, name)(self, *others)

    return method


for _name in (
    'add',
    'radd',
    'sub',
    'rsub',
    'mul',
    'rmul',
    'floordiv',
    'rfloordiv',
):
    setattr(Extent, f'__{_name}__', _proportional(f'__{_name}__'))
# hashing is what a look-up in a table or a set does
for _name in (
    'truediv rtruediv pow rpow mod rmod divmod rdivmod float int eq ne lt le gt '
    'ge neg pos abs round ceil floor trunc lshift rlshift rshift rrshift and '
    'rand or ror xor rxor invert hash str repr format'
).split():
    setattr(Extent, f'__{_name}__', _counting(f'__{_name}__'))
for _name in (
    'bit_length bit_count to_bytes as_integer_ratio conjugate is_integer'
).split():
    if hasattr(int, _name):  # more of them in later Pythons
        setattr(Extent, _name, _counting(_name))
for _name in ('real', 'numerator'):  # as fractions take it
    setattr(Extent, _name, property(_counting('__int__')))


class Recording(fx.GraphModule):
    """What a module executed, over the module's own layers.

    Runs node by node: MMCV calls a child ``in``, which generated source text
    cannot spell. Every node that gives a tensor has its ``shape`` in ``meta``,
    every call the ``operations`` of its products.

    Attributes:
        values (list[fx.Node]): Tensors whose values were read by Python.
        counted (Counted): Sources of numbers of channels that were computed
            with, see :class:`Extent`.
    """

    values: List[fx.Node]
    counted: Counted

    def recompile(self) -> None:  # type: ignore[override]
        """No source is generated, so none is returned."""
        type(self).forward = lambda self, *args: fx.Interpreter(self).run(*args)


def split_inputs(example_inputs: Any) -> Tuple[tuple, dict]:
    """Positional and keyword arguments of example inputs.

    Args:
        example_inputs (Tensor | tuple | dict): A tensor; positional arguments,
            the last of which may be a dict of keyword arguments; or keyword
            arguments alone.

    Returns:
        tuple[tuple, dict]: To be called as ``module(*args, **kwargs)``.
    """
    if isinstance(example_inputs, dict):
        return (), dict(example_inputs)
    if not isinstance(example_inputs, (tuple, list)):
        return (example_inputs,), {}
    if example_inputs and isinstance(example_inputs[-1], dict):
        return tuple(example_inputs[:-1]), dict(example_inputs[-1])
    return tuple(example_inputs), {}


def tensors_in(example_inputs: Any) -> list:
    """The tensors among the arguments, in the order of the placeholders."""
    return [
        value
        for value in tree_leaves(split_inputs(example_inputs))
        if torch.is_tensor(value)
    ]


def record(
    module: nn.Module, example_inputs: Any, is_leaf: Callable[[nn.Module], bool]
) -> Recording:
    """Record one execution in evaluation mode.

    Nothing is left behind in the module: neither its mode, nor its buffers,
    parameters and plain attributes, nor torch's random state changes. It runs
    on copies of the inputs, since it may write into them.

    Args:
        module (nn.Module): Any module that runs on the inputs.
        example_inputs (Tensor | tuple | dict): See :func:`split_inputs`.
        is_leaf (Callable): Which submodules are recorded as a single call.

    Returns:
        Recording: Its placeholders are the tensors among the inputs.

    Raises:
        PPCDError: If the module does not run on the inputs, or a tensor is
            written through a view of it, which a recording does not see.
    """
    example_inputs = copied(example_inputs)
    args, kwargs = split_inputs(example_inputs)
    _require_values(module)
    recorder = _Recorder(module)
    for number, tensor in enumerate(tensors_in(example_inputs)):
        recorder.define(tensor, recorder.graph.placeholder(f'input_{number}'))
    with (
        torch.no_grad(),
        state_kept(module),
        recorder.numbers_followed(),
        torch.random.fork_rng(_devices(module)),
    ):
        with recorder.calls_of(is_leaf), recorder.sizes_read(), recorder:
            try:
                out = module(*args, **kwargs)
            except PPCDError:
                raise
            except Exception as error:
                raise PPCDError(
                    f'{type(module).__name__} does not run on the example '
                    f'inputs: {type(error).__name__}: {first_line(error)}. '
                    'Give inputs as its forward takes them, on the device '
                    'of the module.'
                ) from error
        if hasattr(out, 'to_tuple'):  # outputs of Hugging Face's models
            out = out.to_tuple()
        _require_plain(module, out)
        recorder.graph.output(recorder.nodes_in(out))
    recorder.graph.lint()
    recording = Recording(recorder.root(), recorder.graph)
    recording.values = recorder.values
    recording.counted = recorder.counted.copied()
    recording.counted.update(recorder.sources_read())
    return recording


def copied(example_inputs: Any) -> Any:
    """Inputs for a module that may write into them, without the graph that may
    have made a tensor, which cannot be copied."""
    tensors = tensors_in(example_inputs)
    return deepcopy(
        example_inputs, {id(each): each.detach().clone() for each in tensors}
    )


def _require_values(module: nn.Module) -> None:
    if any(parameter.is_meta for parameter in module.parameters()):
        raise PPCDError(
            f'{type(module).__name__} is on the meta device, without values: '
            'move it to a real one (to_empty) and load its weights first.'
        )
    if torch.is_inference_mode_enabled():
        raise PPCDError(
            f'{type(module).__name__} cannot be analysed in '
            'torch.inference_mode, where it is not seen what is written into '
            'which tensor: use torch.no_grad.'
        )


def first_line(error: Exception) -> str:
    """Of a message, without the stop at its end."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip('.') if lines else 'no message'


@contextmanager
def counting_products() -> Iterator[FlopCounterMode]:
    """A counter of the operations (two of a multiply-add) that convolutions and
    matrix products take inside of the context, those of attention and
    recurrent layers among them."""
    with _unfused_attention(), _counter() as counter:
        yield counter


def _counter() -> FlopCounterMode:
    """torch's, which knows nothing of recurrent layers in one piece."""
    aten = torch.ops.aten
    formulas = dict(
        mkldnn_rnn_layer=lambda x, *weights, **_: _recurrent(x, weights[:2]),
        _cudnn_rnn=lambda x, weights, *_, **__: _recurrent(x, weights),
    )
    return FlopCounterMode(
        display=False,
        custom_mapping={
            getattr(aten, name): formula
            for name, formula in formulas.items()
            if hasattr(aten, name)
        },
    )


def _recurrent(x: Any, weights: Any) -> int:
    """Every weight at every step (steps, n, c) of the input."""
    return 2 * prod(x[:2]) * sum(prod(w) for w in weights if len(w) > 1)


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention as the products that it consists of: what computes it in one
    piece is not counted on every device."""
    cuda, mha = torch.backends.cuda, getattr(torch.backends, 'mha', None)
    switches = [
        (
            getattr(cuda, f'{kind}_sdp_enabled'),
            getattr(cuda, f'enable_{kind}_sdp'),
        )
        for kind in ('flash', 'mem_efficient', 'cudnn')
        if hasattr(cuda, f'enable_{kind}_sdp')
    ]
    if mha is not None:
        switches.append((mha.get_fastpath_enabled, mha.set_fastpath_enabled))
    before = [is_on() for is_on, _ in switches]
    try:
        for _, switch in switches:
            switch(False)
        yield
    finally:
        for (_, switch), was_on in zip(switches, before):
            switch(was_on)


def _require_plain(module: nn.Module, out: Any) -> None:
    """Refuse outputs in which tensors may hide."""
    leaves = tree_leaves(out)
    odd = [
        leaf
        for leaf in leaves
        if not torch.is_tensor(leaf)
        and not isinstance(leaf, (int, float, str, type(None)))
    ]
    if odd or not any(map(torch.is_tensor, leaves)):
        what = type(odd[0]).__name__ if odd else type(out).__name__
        raise PPCDError(
            f'{type(module).__name__} returns a {what}, and it is not known '
            'which tensors are in it: return tensors, or tuples, lists or '
            'dicts of them.'
        )


def _devices(module: nn.Module) -> list:
    """CUDA devices whose random state an execution may move."""
    return sorted(
        {p.device.index for p in module.parameters() if p.device.type == 'cuda'}
    )


# What tells nothing of a tensor's values. Any other function that returns no
# tensor hands its values to Python.
_NO_VALUES = frozenset(
    'size dim ndimension numel nelement __len__ stride storage_offset type '
    'element_size is_floating_point is_complex is_signed is_contiguous '
    'is_tensor is_same_size get_device data_ptr is_pinned is_shared is_conj '
    'is_neg is_inference is_storage __hash__ __repr__ __str__ __format__ '
    'result_type can_cast requires_grad_ has_names untyped_storage storage '
    '__dir__ __get__'.split()
)


# What of a tensor's sizes they hand to Python, without telling which.
_SIZES = frozenset(
    'numel nelement __len__ stride storage_offset untyped_storage storage '
    'dim_order'.split()
)


def set_item(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """``tensor[index] = value`` as a node of a graph."""
    tensor[index] = value
    return tensor


class _Recorder(TorchFunctionMode):
    """Turns calls of torch's functions and of leaf modules into nodes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.graph = fx.Graph()
        self.nodes: Dict[int, fx.Node] = {}
        self.versions: Dict[int, tuple] = {}
        self.kept: List[
            Tensor
        ] = []  # an id must not be given to another tensor
        self.paused = False
        self.counted = Counted()  # sources of extents, see Extent
        self.names = {id(child): n for n, child in module.named_modules()}
        named = [*module.named_buffers(), *module.named_parameters()]
        self.stored = {id(tensor): name for name, tensor in named}
        # those of a scripted layer are made anew whenever they are asked for
        self.kept += [tensor for _, tensor in named]
        self.unsaved = _unsaved_buffers(module)
        self.plain = _plain_attributes(module)
        self.tensors: Dict[str, Tensor] = {}
        self.values: List[fx.Node] = []
        self.read: Set[Tuple[str, str]] = set()  # layers and sides
        # what shares memory but no version with a tensor: its `data`
        self.aliases: Dict[int, list] = {}

    def root(self) -> Dict[str, Any]:
        """What the nodes refer to, by name."""
        layers = {
            node.target: self.module.get_submodule(node.target)
            for node in self.graph.nodes
            if node.op == 'call_module'
        }
        return {**layers, **self.tensors}

    def calls_of(self, is_leaf: Callable[[nn.Module], bool]):
        """A context in which leaf modules are recorded as single calls."""
        plain = nn.Module.__call__

        def call(module: nn.Module, *args, **kwargs):
            name = self.names.get(id(module))
            if self.paused or not name or not is_leaf(module):
                return plain(module, *args, **kwargs)

            self.paused = True
            try:
                return self.record(
                    'call_module',
                    name,
                    args,
                    kwargs,
                    lambda: plain(module, *args, **kwargs),
                )
            finally:
                self.paused = False

        return patch.object(nn.Module, '__call__', call)

    def sizes_read(self):
        """A context in which it is noted whether anything but a leaf itself
        reads how many channels it has (``conv.out_channels``): that changes
        when channels leave, without a tensor that would tell."""
        plain = nn.Module.__getattribute__

        def read(module: nn.Module, attribute: str) -> Any:
            if not self.paused and id(module) in self.names:
                for side, names in sizes_of(module).items():
                    if attribute in names:
                        self.read.add((self.names[id(module)], side))
            return plain(module, attribute)

        return patch.object(nn.Module, '__getattribute__', read)

    @contextmanager
    def numbers_followed(self) -> Iterator[None]:
        """A context behind which extents are plain numbers."""
        try:
            yield
        finally:
            self.counted.is_over = True

    def sources_read(self) -> set:
        """All dimensions of what such a layer reads or writes: whichever of
        them has channels, its number was read."""
        return {
            (value.name, dim)
            for node in self.graph.nodes
            for side, values in (
                ('outputs', [node]),
                ('inputs', node.all_input_nodes),
            )
            if node.op == 'call_module' and (node.target, side) in self.read
            for value in values
            for dim in range(len(value.meta.get('shape', ())))
        }

    def define(self, tensor: Tensor, node: fx.Node) -> None:
        """The node that a tensor comes from, from now on."""
        self.nodes[id(tensor)] = node
        self.versions[id(tensor)] = self.version(tensor)
        self.kept.append(tensor)
        node.meta.setdefault('shape', tuple(tensor.shape))

    def version(self, tensor: Tensor) -> tuple:
        """Changes with whatever is written into a tensor."""
        if not tensor.is_inference():
            return (
                tensor._version,
                *(alias._version for alias in self.aliases.get(id(tensor), ())),
            )
        if torch.is_inference_mode_enabled():
            raise PPCDError(
                f'{type(self.module).__name__} runs in torch.inference_mode, '
                'where it is not seen what is written into which tensor: use '
                'torch.no_grad there.'
            )
        return ()  # it cannot be written outside of that mode

    def node_of(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.nodes:
            self._get(tensor)
        elif self.version(tensor) != self.versions[id(tensor)]:
            raise PPCDError(
                f'{type(self.module).__name__} writes into a tensor through '
                f'another view of it (behind "{self.nodes[id(tensor)]}"), so '
                'it is unknown which channels it holds: write out of place '
                'there.'
            )
        return self.nodes[id(tensor)]

    def _get(self, tensor: Tensor) -> None:
        """A node for a tensor that the module holds.

        By a name of its own: under its path fx would register it anew in the
        layer that it belongs to.
        """
        path = self.stored.get(id(tensor))
        if path is None and id(tensor) not in self.plain:
            raise PPCDError(
                f'{type(self.module).__name__} uses a tensor of shape '
                f'{tuple(tensor.shape)} that no recorded operation made (an '
                'operator outside of torch, or a constant outside of the '
                'module), so it is unknown which channels it holds: make it '
                'a buffer of the module, or give the layer that uses it a '
                'rule (register_rule).'
            )
        name = f'_tensor_{len(self.tensors)}'
        self.tensors[name] = tensor
        node = self.graph.create_node('get_attr', name)
        # what no checkpoint holds would be whole again wherever it is built
        node.meta['path'] = None if id(tensor) in self.unsaved else path
        self.define(tensor, node)

    def nodes_in(self, value: Any) -> Any:
        """A structure with nodes in place of tensors."""
        if torch.is_tensor(value):
            return self.node_of(value)
        if isinstance(value, Extent):
            return value.of_graph()
        if isinstance(value, torch.Size):
            return tuple(map(self.nodes_in, value))
        if isinstance(value, (tuple, list)):
            return (
                type(value)(map(self.nodes_in, value))
                if not hasattr(value, '_fields')
                else tuple(map(self.nodes_in, value))
            )
        if isinstance(value, dict):
            return {key: self.nodes_in(v) for key, v in value.items()}
        if isinstance(value, slice):
            return slice(
                *map(self.nodes_in, (value.start, value.stop, value.step))
            )
        return value

    def record(
        self, op: str, target: Any, args: tuple, kwargs: dict, run: Callable
    ) -> Any:
        """Execute; where tensors come out, there is a node for them."""
        args, kwargs = self.nodes_in(tuple(args)), self.nodes_in(dict(kwargs))
        with counting_products() as products:
            out = run()
        if any(torch.is_tensor(leaf) for leaf in tree_leaves(out)):
            node = self.graph.create_node(op, target, args, kwargs)
            node.meta['operations'] = products.get_total_flops()
            self.outputs(out, node)
        elif getattr(target, '__name__', target) not in _NO_VALUES:
            self.values += [
                leaf
                for leaf in tree_leaves((args, kwargs))
                if isinstance(leaf, fx.Node)
            ]
        return out

    def outputs(self, out: Any, node: fx.Node) -> None:
        if torch.is_tensor(out):
            self.define(out, node)
            return
        items = (
            out.items()
            if isinstance(out, dict)
            else enumerate(out)
            if isinstance(out, (tuple, list))
            else ()
        )
        for key, part in items:
            if any(torch.is_tensor(leaf) for leaf in tree_leaves(part)):
                self.outputs(
                    part,
                    self.graph.create_node(
                        'call_function', operator.getitem, (node, key)
                    ),
                )

    def __torch_function__(self, func, types_, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        name = getattr(func, '__name__', '')
        if isinstance(func, types.MethodWrapperType):
            return self._property(func, name, args, kwargs)
        if name == '__setitem__':
            inputs = self.nodes_in(tuple(args))
            func(*args)
            node = self.graph.create_node('call_function', set_item, inputs)
            self.define(args[0], node)
            return None
        op, target = 'call_function', func
        if name == '__getitem__':
            target = operator.getitem
        elif _is_method(func, name):
            op, target = 'call_method', name
        out = self.record(
            op,
            target,
            *by_position(args, kwargs),
            lambda: func(*args, **kwargs),
        )
        if name == 'size':
            sizes = self.extents(args[0], args[0].shape)
            if type(out) is not int:
                return sizes
            return sizes[args[1] if len(args) > 1 else kwargs['dim']]
        if name in _SIZES and args:
            self.count(args[0])
        return out

    def count(self, tensor: Tensor) -> None:
        """An integer without sources is made of the sizes of a tensor:
        whatever it is used for is unknown."""
        self.counted.update(
            source
            for size in self.extents(tensor, tensor.shape)
            for source in getattr(size, 'sources', ())
        )

    def extents(self, tensor: Tensor, size: torch.Size) -> torch.Size:
        """A size whose numbers know where they come from."""
        if id(tensor) not in self.nodes and id(tensor) not in self.stored:
            return size  # of a constant
        name = self.node_of(tensor).name
        return torch.Size(
            Extent.of(int(value), frozenset([(name, dim)]), self.counted)
            for dim, value in enumerate(size)
        )

    def _property(
        self, func: Callable, name: str, args: tuple, kwargs: dict
    ) -> Any:
        out = func(*args, **kwargs)
        if isinstance(out, torch.Size):
            return self.extents(args[0], out)
        if _reads('nbytes', func):
            self.count(args[0])
        if name != '__get__' or not torch.is_tensor(out):
            return out
        for read in ('data', 'T', 'mT', 'H', 'mH', 'real', 'imag'):
            if _reads(read, func):
                if read == 'data':
                    source = self.node_of(args[0])
                    self.aliases.setdefault(id(args[0]), []).append(out)
                    self.define(args[0], source)
                return self.record(
                    'call_function', getattr, (args[0], read), {}, lambda: out
                )
        return out  # a gradient or a base: unknown, so a constant


def _reads(name: str, func: Callable) -> bool:
    """Whether it is what reads that attribute of a tensor."""
    return getattr(getattr(torch.Tensor, name, None), '__get__', None) == func


def _plain_attributes(module: nn.Module) -> set:
    """Identities of tensors that modules hold as plain attributes, such as
    EDSR's mean."""
    return {
        id(leaf)
        for child in module.modules()
        for leaf in tree_leaves(
            {
                name: value
                for name, value in vars(child).items()
                if isinstance(value, (Tensor, list, tuple, dict))
                and not name.startswith('_')
            }
        )
        if torch.is_tensor(leaf)
    }


def _unsaved_buffers(module: nn.Module) -> set:
    """Identities of buffers that are not in the state dict."""
    return {
        id(buffer)
        for child in module.modules()
        for name, buffer in child.named_buffers(recurse=False)
        if name in child._non_persistent_buffers_set
    }


def _is_method(func: Callable, name: str) -> bool:
    return (
        getattr(torch.Tensor, name, None) is func
        or isinstance(
            func, (types.MethodDescriptorType, types.WrapperDescriptorType)
        )
        or func.__module__ == 'torch._tensor'
    )
