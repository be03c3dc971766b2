"""Which channel is which: cells, pushed through a recording.

Every value of a recording is given an integer tensor that broadcasts to its
shape and names a *cell* for each channel. A cell knows which masked outputs
write it, and whether anything without a mask does (then it is *open*). Each
cell belongs to an *atom*: what can only leave the network together. Where it
is not known what a layer does, its channels are *pinned*: they may be zeroed,
never discarded.

An atom may leave if and only if something reads it, nothing pins it, and it
is closed wherever it is read.
"""

from collections import Counter, defaultdict
from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch
import torch.nn as nn
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from ppcd_mmagic.errors import PPCDError
from . import rules
from .recording import Recording, record

# The two cells that are always there: of constants, and of what comes from
# outside. Both are pinned.
CONSTANT, INPUT = 0, 1

Output = Tuple[str, int]  # a masked layer and one of its channels


class Cells:
    """The cells and atoms of one analysis.

    Attributes:
        writers (list[frozenset]): By cell, the masked outputs that reach it.
        opened (list[str | None]): By cell, what writes it without a mask.
        normed (list[frozenset]): By cell, the writers of which a norm undoes
            how large their outputs are, before anything else is added.
        atoms (list[int]): By cell, its atom; compare by :meth:`root`.
        reasons (dict): By root, why the atom is pinned.
    """

    def __init__(self) -> None:
        self.writers: List[FrozenSet[Output]] = [frozenset(), frozenset()]
        self.opened: List[Optional[str]] = [None, 'the input']
        self.normed: List[FrozenSet[Output]] = [frozenset(), frozenset()]
        self.atoms = [0, 1]
        self.reasons: Dict[int, str] = {
            0: 'meets a constant that has all its channels',
            1: 'meets the input',
        }
        self._parents = [0, 1]
        self._known: Dict[tuple, int] = {}

    def new(
        self,
        writers: FrozenSet[Output] = frozenset(),
        opened: Optional[str] = None,
        atom: Optional[int] = None,
        normed: FrozenSet[Output] = frozenset(),
    ) -> int:
        """A new cell, of a new atom unless one is given."""
        if atom is None:
            atom = len(self._parents)
            self._parents.append(atom)
        self.writers.append(writers)
        self.opened.append(opened)
        self.normed.append(normed)
        self.atoms.append(atom)
        return len(self.writers) - 1

    def root(self, cell: int) -> int:
        """What stands for the atom of a cell."""
        atom, parents = self.atoms[cell], self._parents
        while parents[atom] != atom:
            parents[atom] = parents[parents[atom]]
            atom = parents[atom]
        return atom

    def join(self, cells) -> Optional[int]:
        """Let the atoms of cells leave only together; the common one."""
        roots = set(map(self.root, cells))
        if not roots:
            return None
        first = min(roots)
        for root in roots - {first}:
            self._parents[root] = first
            if root in self.reasons:
                self.reasons.setdefault(first, self.reasons.pop(root))
        return first

    def pin(self, cells: Tensor, reason: str) -> None:
        """Forbid that any of the cells is ever discarded."""
        for cell in cells.unique().tolist():
            if cell > INPUT:
                self.reasons.setdefault(self.root(cell), reason)

    def is_closed(self, cell: int) -> bool:
        """Whether only masked outputs write a cell."""
        return bool(self.writers[cell]) and self.opened[cell] is None

    def sum(self, cells: tuple, leaving: Optional[tuple] = None) -> int:
        """The cell of a sum: closed only if all that count are.

        Args:
            cells (tuple[int]): The operands.
            leaving (tuple[int], optional): Those that leave with the sum.
        """
        return self._unite('sum', cells, leaving)

    def product(self, cells: tuple, leaving: Optional[tuple] = None) -> int:
        """The cell of a product: closed if any factor is."""
        return self._unite('product', cells, leaving)

    def _unite(self, kind: str, cells: tuple, leaving: Optional[tuple]) -> int:
        key = (kind, cells, leaving)
        if key not in self._known:
            # parameters of their own, which neither open nor close anything
            counted = [c for c in cells if self.writers[c] or self.opened[c]]
            if kind == 'product':
                counted = self._closing(counted, leaving) or counted
            reason = next(filter(None, (self.opened[c] for c in counted)), None)
            atom = self.join(cells if leaving is None else leaving)
            self._known[key] = self.new(
                frozenset().union(*(self.writers[c] for c in counted)),
                reason,
                atom,
                frozenset().union(*(self.normed[c] for c in counted)),
            )
        return self._known[key]

    def _closing(
        self, factors: List[int], leaving: Optional[tuple]
    ) -> List[int]:
        """The factors that close a product: those that leave with it, or any
        that are closed where there are none of those."""
        closed = [c for c in factors if not self.opened[c]]
        return [c for c in closed if leaving is None or c in leaving] or closed

    def as_bias(self, cell: int) -> int:
        """The same channel, where it is one value for a whole feature map:
        a bias, which never opens what it is added to."""
        key = ('bias', cell)
        if key not in self._known:
            self._known[key] = self.new(
                self.writers[cell], None, self.atoms[cell], self.normed[cell]
            )
        return self._known[key]

    def norm(self, cell: int) -> int:
        """The same channel behind a norm that undoes the gates of all that
        write it."""
        key = ('norm', cell)
        if key not in self._known:
            self._known[key] = self.new(
                self.writers[cell],
                self.opened[cell],
                self.atoms[cell],
                self.writers[cell],
            )
        return self._known[key]


class Call(NamedTuple):
    """One node of a recording, as a rule sees it.

    Attributes:
        name (str): Of the function, method or module.
        args, kwargs: Arguments, with cells in place of tensors.
        node (fx.Node): It, where the arguments are nodes.
        shape (tuple | None): Of the output, where that is one tensor.
    """

    name: str
    args: tuple
    kwargs: dict
    node: fx.Node
    shape: Optional[tuple]


class Use(NamedTuple):
    """A number of channels that is used as a size of something.

    Attributes:
        node (str): Where.
        sources (frozenset): The dimensions it counts, where channels vary.
        is_exact (bool): Whether it has to be the size, or may be a part or
            a multiple of it.
    """

    node: str
    sources: FrozenSet[tuple]
    is_exact: bool


class Analysis:
    """Pushes cells through a recording.

    Args:
        recording (Recording): See :func:`analyse`.
        masked (Sequence[str]): Layers that carry a mask.
        followers (Sequence[str]): Convolutions that only add to the channels
            of what they read.
        renamed (set[int]): Identities of parameters that have several names;
            under one of them alone they cannot be cut.
        trusted (set[Use]): Numbers that are taken to fit what they are used
            on; they are pinned if they do not at the end.

    Attributes:
        cells (Cells): All cells.
        reads (dict): By layer, the cells along its inputs, shape (c, ).
        writes (dict): By layer, those along its outputs.
        holds (dict): By (owner, side), lists of the cells along that side:
            owner is a layer and side 'outputs' or 'inputs', or owner is the
            path of a parameter and side a dimension of it.
        images (set): Layers whose channels are the output itself.
        late (set[Use]): Numbers that were pinned, since they did not fit when
            they were used, and do now: what joined the channels came later.
    """

    def __init__(
        self,
        recording: Recording,
        masked: Sequence[str],
        followers: Sequence[str] = (),
        renamed: AbstractSet[int] = frozenset(),
        trusted: AbstractSet[Use] = frozenset(),
    ) -> None:
        self.recording = recording
        self.renamed = renamed
        self.trusted = trusted
        self._uses: List[Tuple[Use, Tensor]] = []
        self.masked = set(masked)
        self.followers = set(followers)
        self.cells = Cells()
        self.reads: Dict[str, Tensor] = {}
        self.writes: Dict[str, Tensor] = {}
        self.holds: Dict[tuple, List[Tensor]] = defaultdict(list)
        self.images: Set[str] = set()
        self._two: List[Tensor] = []
        self._values: Dict[fx.Node, Any] = {}
        self.shared = shared_parameters(recording)
        self._named = {node.name: node for node in recording.graph.nodes}
        self.node: fx.Node
        for node in recording.graph.nodes:
            self.node = node
            self._values[node] = self._checked(node, self._visit(node))
        for source in sorted(recording.counted):
            self.pin_source(source, 'its number is used in a computation')
        for addends in recording.counted.sums:
            varies = [
                any(len(self.source(source)) > 1 for source in sources)
                for sources in addends
            ]
            if any(varies) and not all(varies):
                for source in frozenset().union(*addends):
                    self.pin_source(
                        source, 'a fixed number is added to its own'
                    )
        for value in recording.values:
            self.pin_all(self.of(value), 'its values are read by Python')
        for held in self.holds.values():  # a layer used twice
            for same in zip(*(cells.tolist() for cells in held)):
                self.cells.join(same)
        self.late = self._settle()
        self._all_of: Dict[int, str] = {}
        for (owner, _), (cells, *_) in self.holds.items():
            roots = set(map(self.cells.root, cells.tolist()))
            if len(roots) == 1:
                (root,) = roots
                self._all_of.setdefault(root, f'is all that {owner} has')
        self._readers = defaultdict(list)
        for layer, cells in self.reads.items():
            for position, cell in enumerate(cells.tolist()):
                self._readers[self.cells.root(cell)].append(
                    (layer, position, cell)
                )

    # -- what comes of it

    def leaving(self, is_alive: Callable[[str, int], bool]) -> Set[int]:
        """Roots of the atoms that may be discarded.

        Args:
            is_alive (Callable): Whether a closed cell is alive, by (layer,
                position) where it is read.
        """
        leaving = set()
        for root, places in self._readers.items():
            if root not in self.cells.reasons and not any(
                not self.cells.is_closed(cell) or is_alive(layer, position)
                for layer, position, cell in places
            ):
                leaving.add(root)
        leaving -= {self.cells.root(CONSTANT), self.cells.root(INPUT)}
        for cells, *_ in self.holds.values():
            roots = [self.cells.root(cell) for cell in cells.tolist()]
            if roots and leaving.issuperset(roots):
                leaving.discard(roots[0])  # no layer can be without channels
        for cells in self._two:
            roots = [self.cells.root(cell) for cell in cells.tolist()]
            for root in roots:
                if sum(each not in leaving for each in roots) < 2:
                    leaving.discard(root)
        return leaving

    def is_read(self, name: str) -> bool:
        """Whether any layer is known to read a channel of a layer."""
        return any(
            self._readers.get(self.cells.root(cell))
            for cell in self.writes[name].tolist()
        )

    def why_not(self, root: int) -> Optional[str]:
        """Why an atom can never be discarded, None if it can."""
        if root in self.cells.reasons:
            return self.cells.reasons[root]
        for layer, _, cell in self._readers.get(root, ()):
            if self.cells.opened[cell]:
                return (
                    f'meets {self.cells.opened[cell]} before {layer} reads it'
                )
            if not self.cells.writers[cell]:
                return f'nothing that is masked writes it before {layer}'
        return (
            None if root in self._readers else 'nothing that is known reads it'
        )

    def why_it_stays(self, root: int) -> Optional[str]:
        """As :meth:`why_not`, or because no layer can be without channels.

        Which one would be may change as others leave: no reason for a score
        of another kind.
        """
        return self.why_not(root) or self._all_of.get(root)

    def writers_of_atoms(self) -> Dict[int, FrozenSet[Output]]:
        """All masked outputs that write an atom, by root; not of atoms that
        anything unmasked writes as well."""
        writers: Dict[int, FrozenSet[Output]] = defaultdict(frozenset)
        opened = set()
        for cell in range(len(self.cells.writers)):
            root = self.cells.root(cell)
            writers[root] |= self.cells.writers[cell]
            if self.cells.writers[cell] and self.cells.opened[cell]:
                opened.add(root)
        return {
            root: found
            for root, found in writers.items()
            if found and root not in opened
        }

    # -- what rules use

    def of(self, node: Any) -> Any:
        """The cells of a node."""
        return self._values[node]

    def inputs(self) -> List[fx.Node]:
        """Nodes that the present one takes in."""
        return self.node.all_input_nodes

    def source(self, source: tuple) -> Tensor:
        """The cells along the dimension that an extent came from, shape
        (c, ) or, where they do not vary, (1, )."""
        name, dim = source
        cells = self._values[self._named[name]]
        if not torch.is_tensor(cells) or cells.shape[dim] == 1:
            return torch.tensor([CONSTANT])
        return self.along(cells, dim, cells.shape[dim])

    def pin_source(self, source: tuple, reason: str) -> None:
        self.cells.pin(self.source(source), reason)

    def follows(self, extent: Any, cells: Tensor) -> bool:
        """Whether an integer changes as the number of the cells does; where
        it does not, what it follows instead is pinned."""
        varying = self._varying(extent)
        if not varying:
            return False
        if self._fits(Use(self.node.name, varying, False), cells):
            return True
        self._pin_varying(varying)
        return False

    def measures(self, extent: Any, cells: Tensor) -> bool:
        """Whether an integer stays the number of these cells; nothing is
        pinned where it does not."""
        varying = self._varying(extent)
        return bool(varying) and self._fits(
            Use(self.node.name, varying, True), cells
        )

    def _varying(self, extent: Any) -> FrozenSet[tuple]:
        sources = getattr(extent, 'sources', ())
        return frozenset(s for s in sources if len(self.source(s)) > 1)

    def _fits(self, use: Use, cells: Tensor) -> bool:
        if self._is_number_of(use, cells):
            return True
        self._uses.append((use, cells))
        return use in self.trusted

    def _is_number_of(self, use: Use, cells: Tensor) -> bool:
        """Whether of what is counted as many leave with each atom as of the
        cells: exactly, or in proportion."""
        counted = self._count(
            cell for s in use.sources for cell in self.source(s).tolist()
        )
        found = self._count(cells.flatten().tolist())
        if use.is_exact or counted.keys() != found.keys():
            return counted == found
        factors = {found[root] / counted[root] for root in found}
        return len(factors) == 1

    def _count(self, cells: Iterable[int]) -> Counter:
        return Counter(map(self.cells.root, cells))

    def _pin_varying(self, sources: FrozenSet[tuple]) -> None:
        for each in sorted(sources):
            self.pin_source(each, 'a size of another tensor is taken of it')

    def _settle(self) -> Set[Use]:
        """Pin what was trusted for nothing; what could have been trusted."""
        late = set()
        for use, cells in self._uses:
            if self._is_number_of(use, cells):
                late.add(use)
            elif use in self.trusted:
                self._pin_varying(use.sources)
                self.cells.pin(cells, 'a size of another tensor is taken of it')
        return late

    def layer(self, name: str) -> nn.Module:
        return self.recording.get_submodule(name)

    def full(self, node: fx.Node) -> Tensor:
        """The cells of a node, one for each element of its value."""
        return self.of(node).expand(node.meta['shape'])

    def opaque(self, reason: str) -> Any:
        """What is not known: all that goes in is pinned, all that comes out
        is open."""
        for node in self.inputs():
            self.pin_all(self.of(node), reason)
        cell = self.cells.new(opened=f'something unknown ({reason})')
        self.cells.pin(torch.tensor(cell), reason)
        if 'shape' in self.node.meta:
            return _all(cell, self.node.meta['shape'])
        return _Parts(cell, self.node)

    def pin_all(self, value: Any, reason: str) -> None:
        for cells in tree_leaves(value):
            if torch.is_tensor(cells):
                self.cells.pin(cells, reason)

    def squeeze(self, cells: Tensor) -> Tensor:
        """Extent 1 wherever nothing varies."""
        for dim in range(cells.ndim):
            if cells.shape[dim] > 1 and bool(
                (cells == cells.narrow(dim, 0, 1)).all()
            ):
                cells = cells.narrow(dim, 0, 1)
        return cells

    def atoms_of(self, cells: Tensor) -> Tensor:
        """The roots of cells, with extent 1 wherever they do not vary: in
        other dimensions nothing can leave by itself."""
        found, inverse = cells.unique(return_inverse=True)
        roots = torch.tensor([self.cells.root(c) for c in found.tolist()])
        return self.squeeze(roots[inverse].view(cells.shape))

    def along(self, cells: Tensor, dim: int, size: int) -> Tensor:
        """One cell for each position of a dimension, shape (size, ); what the
        other dimensions show there counts as a sum."""
        rows = cells.movedim(dim, 0).reshape(cells.shape[dim], -1)
        if rows.shape[1] == 1:
            return rows.flatten().expand(size)
        united = [
            row[0] if len(row) == 1 else self.cells.sum(tuple(row))
            for row in (sorted(set(row)) for row in rows.tolist())
        ]
        return torch.tensor(united).expand(size)

    def per_channel(self, cells: Tensor) -> Tensor:
        """For what treats a channel (dimension 1) as a whole."""
        if cells.ndim < 3 or all(size == 1 for size in cells.shape[2:]):
            return cells
        return self.along(cells, 1, cells.shape[1]).view(
            [1, -1] + [1] * (cells.ndim - 2)
        )

    def read(self, name: str, cells: Tensor, holds: bool = True) -> None:
        """A layer reads the cells (c, ) along its inputs, and by default has
        an entry for each."""
        if name in self.reads:  # used twice: alive where either is
            cells = torch.tensor(
                [
                    self.cells.sum(pair) if pair[0] != pair[1] else pair[0]
                    for pair in zip(self.reads[name].tolist(), cells.tolist())
                ]
            )
        self.reads[name] = cells
        if holds:
            self.hold(name, 'inputs', cells)

    def write(self, name: str, count: int) -> Tensor:
        """The cells (count, ) that a layer writes, the same at every use."""
        if name not in self.writes:
            self.writes[name] = torch.tensor(
                [self._written(name, i) for i in range(count)]
            )
            self.hold(name, 'outputs', self.writes[name])
        return self.writes[name]

    def _written(self, name: str, channel: int) -> int:
        if name in self.masked:
            return self.cells.new(frozenset([(name, channel)]))
        if name in self.followers:
            return self.cells.new()
        return self.cells.new(opened=f'the unmasked {name}')

    def keep_two(self, cells: Tensor) -> None:
        """Of these as many stay that there is not only one."""
        self._two.append(cells)

    def hold(self, owner: str, side: Any, cells: Tensor) -> None:
        """The owner has an entry for each cell along that side."""
        self.holds[owner, side].append(cells)

    # -- the nodes

    def _visit(self, node: fx.Node) -> Any:
        if node.op == 'placeholder':
            return _all(INPUT, node.meta['shape'])
        if node.op == 'get_attr':
            return self._tensor(node)
        if node.op == 'output':
            return self._output(node)
        args = fx.map_arg(node.args, self.of)
        kwargs = fx.map_arg(node.kwargs, self.of)
        name = (
            node.target
            if isinstance(node.target, str)
            else getattr(node.target, '__name__', str(node.target))
        )
        return rules.apply(
            self, Call(name, args, kwargs, node, node.meta.get('shape'))
        )

    def _tensor(self, node: fx.Node) -> Tensor:
        """A parameter with an extent along a single dimension may be one
        value a channel, and then follows what it meets."""
        value = getattr(self.recording, str(node.target))
        extended = [d for d in range(value.ndim) if value.shape[d] > 1]
        if (
            node.meta['path'] is None
            or len(extended) != 1
            or node.meta['path'].rpartition('.')[0] in self.shared
            or id(value) in self.renamed
            or not value.is_floating_point()
        ):
            return _all(CONSTANT, value.shape)
        (dim,) = extended
        cells = torch.tensor(
            [self.cells.new() for _ in range(value.shape[dim])]
        )
        self.hold(node.meta['path'], dim, cells)
        return cells.view([-1 if d == dim else 1 for d in range(value.ndim)])

    def _output(self, node: fx.Node) -> None:
        for value in node.all_input_nodes:
            for cells in tree_leaves(self.of(value)):
                for cell in cells.unique().tolist():
                    self.images.update(
                        name for name, _ in self.cells.writers[cell]
                    )
            self.pin_all(self.of(value), 'is the image')

    @staticmethod
    def _checked(node: fx.Node, value: Any) -> Any:
        """A rule that gives cells of another form would spoil all behind."""
        shape = node.meta.get('shape')
        if (
            torch.is_tensor(value)
            and shape is not None
            and (
                value.ndim != len(shape)
                or any(a not in (1, b) for a, b in zip(value.shape, shape))
            )
        ):
            raise PPCDError(
                f'The rule for "{node.target}" gave cells of shape '
                f'{tuple(value.shape)}, which do not broadcast to its output '
                f'{shape}: correct it (register_rule).'
            )
        return value


class _Parts:
    """The outputs of a layer of which nothing is known."""

    def __init__(self, cell: int, node: fx.Node) -> None:
        self.cell, self.node = cell, node

    def __getitem__(self, index: Any) -> Any:
        part = next(user for user in self.node.users if user.args[1] == index)
        if 'shape' in part.meta:
            return _all(self.cell, part.meta['shape'])
        return _Parts(self.cell, part)


def shared_parameters(recording: Recording) -> Dict[str, str]:
    """Layers with a parameter that is used elsewhere as well, by name, and
    where. Neither a gate can be written into it nor a channel taken out."""
    parameters = {
        name: list(recording.get_submodule(name).parameters())
        for name in sorted(
            {n.target for n in recording.graph.nodes if n.op == 'call_module'}
        )
    }
    measured = {name for name, _ in recording.counted}
    for node in recording.graph.nodes:
        for value in tree_leaves((node.args, node.kwargs)):
            measured.update(n for n, _ in getattr(value, 'sources', ()))
    others = {
        node: getattr(recording, str(node.target))
        for node in recording.graph.nodes
        if node.op == 'get_attr' and (node.users or node.name in measured)
    }
    memory = _memory([*tree_leaves(parameters), *others.values()])
    users: Dict[int, Set[str]] = defaultdict(set)
    for name, values in parameters.items():
        for value in values:
            users[memory[id(value)]].add(name)
    beside = {
        memory[id(value)]: node.meta.get('path') or 'what holds its values'
        for node, value in others.items()
    }
    found = {}
    for key, names in users.items():
        for name in names:
            if key in beside:
                found[name] = f'{beside[key]} is used beside its layer'
            elif len(names) > 1:
                others_of_it = ', '.join(sorted(names - {name}))
                found[name] = f'{name} shares a parameter with {others_of_it}'
    return found


def _memory(tensors: Sequence[Tensor]) -> Dict[int, int]:
    """Numbers of tensors, by identity: the same where they share memory, as
    after ``a.data = b.data``."""

    def where(tensor: Tensor) -> tuple:
        if tensor.layout is not torch.strided:  # a sparse one has no storage
            return '', id(tensor), 0
        return (
            str(tensor.device),
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset() * tensor.element_size(),
        )

    numbers: Dict[int, int] = {}
    number, storage, end = 0, None, 0
    for tensor in sorted({id(t): t for t in tensors}.values(), key=where):
        *place, start = where(tensor)
        if place != storage or start >= end:
            number, storage, end = number + 1, place, 0
        numbers[id(tensor)] = number
        end = max(end, start + _span(tensor))
    return numbers


def _span(tensor: Tensor) -> int:
    """Bytes from the first element to the last."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return 0
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride()))
    return (last + 1) * tensor.element_size()


def _all(cell: int, shape) -> Tensor:
    return torch.full([1] * len(shape), cell)


def record_channels(module: nn.Module, example_inputs: Any) -> Recording:
    """A recording in which every layer that has a rule is one call."""
    return record(module, example_inputs, rules.is_leaf)


def analyse(
    module: nn.Module, recording: Recording, masked: Sequence[str]
) -> Analysis:
    """Find out which channels of a module are which.

    Args:
        module (nn.Module): The module that was recorded.
        recording (Recording): See :func:`record_channels`.
        masked (Sequence[str]): Layers that carry a mask. by name.

    Raises:
        PPCDError: If a masked layer was not run.
    """
    followers = [name for name in rules.followers(module) if name not in masked]
    shared = shared_parameters(recording)
    for name in masked:
        if name in shared:
            raise PPCDError(
                f'{name} cannot carry a mask: {shared[name]}. '
                'Leave it out by name (exclude).'
            )
    holders = Counter(
        id(parameter)
        for child in module.modules()
        for parameter in child._parameters.values()
    )
    renamed = {key for key, count in holders.items() if count > 1}
    trusted: Set[Use] = set()
    with torch.device('cpu'):  # cells, wherever the module is
        while True:
            analysis = Analysis(recording, masked, followers, renamed, trusted)
            if analysis.late <= trusted:
                break
            trusted |= analysis.late
    idle = [name for name in masked if name not in analysis.writes]
    if idle:
        raise PPCDError(
            f'{type(module).__name__} did not run the masked '
            f'{", ".join(idle)} on the example inputs (or runs it inside of a '
            'layer that is taken as a whole): leave it out by name (exclude), '
            'or give inputs that use it.'
        )
    return analysis
