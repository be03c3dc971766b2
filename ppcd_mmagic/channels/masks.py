"""Learnable channel masks: the one mechanism behind PP-Res.

A mask acts in two places, because a zeroed channel is not yet a dead one: on
the *output* of its layer, and on the *input* of every layer that reads
those channels. Between the two stands a norm, say, which turns an all-zero
channel into a constant; cut off at the readers, that constant reaches
nothing. So a pruned channel can be discarded exactly.

Both are a :class:`Gate`: which mask entries decide over which channel.
"""

from collections import Counter, defaultdict
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatch
from typing import (
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from ppcd_mmagic.errors import PPCDError
from . import hooks
from .analysis import Analysis
from .widths import Widths, keep_channels, set_widths


class ChannelMask(nn.Module):
    """A mask over channels that can leave the network one by one.

    The mask is binary wherever it is used; ``weight`` is the score behind it,
    trained through a straight-through estimator (method: Eq. 3 of the paper,
    reconstruction), and ``pruned`` marks what is gone for good.

    Args:
        channels (int): Number of channels c.

    Attributes:
        weight (nn.Parameter): Scores, shape (c, ), 1 at the start.
        pruned (Tensor): Bool buffer, shape (c, ).
        channels (int): c as built. Where pruned channels were removed the
            tensors are shorter, but those channels still count as pruned.
        present (int): Number of channels that were not removed.

    Example:
        >>> mask = ChannelMask(4)
        >>> mask.weight.data = torch.tensor([0.9, 0.1, 0.5, 0.7])
        >>> mask.prune(2)
        >>> mask.gate().tolist(), mask.sparsity
        ([1.0, 0.0, 0.0, 1.0], 0.5)
    """

    pruned: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.present = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer('pruned', torch.zeros(channels, dtype=torch.bool))

    @property
    def num_removed(self) -> int:
        return self.channels - self.present

    @property
    def num_pruned(self) -> int:
        return int(self.pruned.sum()) + self.num_removed

    @property
    def sparsity(self) -> float:
        """Fraction of channels pruned, in [0, 1)."""
        return self.num_pruned / self.channels

    def gate(self) -> Tensor:
        """The mask in use, shape (c, ): exactly 0 where pruned, 1 elsewhere.

        Its gradient passes unchanged to ``weight`` of the living channels.
        """
        alive = (~self.pruned).to(self.weight.dtype)
        return alive * (1 + (self.weight - self.weight.detach()))

    @torch.no_grad()
    def prune(self, count: int) -> None:
        """Prune the lowest scores until ``count`` channels are pruned.

        Never revives a channel and never prunes the last one.
        """
        count = min(count, self.channels - 1)
        missing = count - self.num_pruned
        if missing <= 0:
            return
        scores = self.weight.masked_fill(self.pruned, float('inf'))
        # a stable sort, so that equal scores fall alike everywhere
        self.pruned[torch.sort(scores, stable=True).indices[:missing]] = True

    def keep(self, kept: Tensor, optimizer: Optional[Optimizer] = None) -> None:
        """Remove all channels but those of the given indices."""
        keep_channels(self, 'outputs', kept, optimizer)

    def extra_repr(self) -> str:
        return f'{self.channels}, pruned={self.num_pruned}'


set_widths(
    ChannelMask,
    Widths(dict(weight=0, pruned=0), sizes=dict(outputs=('present',))),
)

_suspended = ContextVar('suspended', default=False)


@contextmanager
def suspended_gates() -> Iterator[None]:
    """Gates do nothing in this context: while a module is recorded they may
    still be of the widths it had before."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


_Gate = TypeVar('_Gate', bound='Gate')

# Entries of a gate's table before those of its masks
CLOSED, OPEN = 0, 1


class Gate:
    """Which mask entries decide over which channels of a layer.

    A channel is alive while any of its entries is. One that has a single
    entry trains its score. One that several share (channels that meet in an
    addition) is cut off, and trains the scores of those of which a norm undoes
    the gate on their outputs: nothing else would.

    Args:
        masks (Sequence[ChannelMask]): The table: after the constants CLOSED
            and OPEN, the entries of these masks one after the other.
        index (Tensor): Entries by channel, shape (c, k), padded with CLOSED.
        tied (bool): Whether the entries of the mask stand for atoms, which
            have to be found again when widths change. Defaults to False.
        normed (Tensor, optional): Which of the entries stand behind a norm,
            bool (c, k). Defaults to none.
    """

    def __init__(
        self,
        masks: Sequence[ChannelMask],
        index: Tensor,
        tied: bool = False,
        normed: Optional[Tensor] = None,
    ) -> None:
        self.masks = list(masks)
        self.index = index
        self.tied = tied
        self.normed = normed if normed is not None and normed.any() else None
        self._is_identity = len(self.masks) == 1 and torch.equal(
            index, _identity(self.masks[0])
        )
        self._several = (index > CLOSED).sum(1) > 1
        self._alive: Optional[Tuple[list, Tensor]] = None

    @classmethod
    def of(cls: Type[_Gate], mask: ChannelMask) -> _Gate:
        """Each channel by its own entry of one mask."""
        return cls([mask], _identity(mask))

    def __getstate__(self) -> dict:
        return {**vars(self), '_alive': None}  # of these masks, not of copies

    def _place(self, device: torch.device) -> None:
        if self.index.device != device:
            self.index = self.index.to(device)
            self._several = self._several.to(device)
            if self.normed is not None:
                self.normed = self.normed.to(device)

    def _table(self, entries: List[Tensor]) -> Tensor:
        constants = torch.tensor([0, 1]).to(entries[0])
        return torch.cat([constants, *entries])

    @torch.no_grad()
    def alive(self) -> Tensor:
        """Bool tensor of shape (c, ); computed when a mask has changed."""
        state = [(mask.pruned, mask.pruned._version) for mask in self.masks]
        if self._alive is None or any(
            a is not b or v != w
            for (a, v), (b, w) in zip(state, self._alive[0])
        ):
            self._place(state[0][0].device)
            table = self._table([~mask.pruned for mask in self.masks])
            self._alive = state, table[self.index].any(1)
        return self._alive[1]

    def value(self) -> Tensor:
        """Shape (c, ), exactly 0 or 1. Its gradient reaches the scores of the
        channels that have one entry, and of several those that are normed."""
        if self._is_identity:
            return self.masks[0].gate()
        alive = self.alive().to(self.masks[0].weight.dtype)
        table = self._table([mask.gate() for mask in self.masks])
        if self.normed is not None:
            # straight through, each as if it were the only one: a product of
            # 1 - entry has no slope where another entry lives
            trained = (table[self.index] * self.normed).sum(1)
            alive = alive + (trained - trained.detach())
        return torch.where(self._several, alive, table[self.index[:, 0]])

    def mask_output(self, layer: nn.Module, args: tuple, out: Tensor) -> Tensor:
        """Forward hook of the layer that the gate belongs to."""
        if _suspended.get():
            return out
        dim = -1 if isinstance(layer, nn.Linear) else 1
        gate = _per_channel(self.value(), out, dim)
        # nobody else has seen the layer's output; a product in place
        # saves its memory where no gradient needs both
        return out * gate if torch.is_grad_enabled() else out.mul_(gate)

    def _follows_the_weight(self, layer: nn.Module) -> bool:
        """Whether the weight has just been computed, by a hook ahead of this
        one; one that was put on later would compute it anew."""
        *ahead, last = layer._forward_pre_hooks.values()
        return (
            'weight' in vars(layer)
            and bool(ahead)
            and getattr(last, '__self__', None) is self
        )

    def mask_input(
        self, layer: Union[_ConvNd, nn.Linear], args: tuple
    ) -> tuple:
        """Forward pre-hook of a layer that reads the channels.

        A weight times the gate gives the same as the input times the gate,
        and is smaller where the image is large. torch's spectral norm has
        just computed it for this pass, so that it can be replaced.
        """
        if _suspended.get():
            return args
        x, *rest = args
        if isinstance(layer, nn.Linear):
            return (x * self.value().to(x.dtype), *rest)
        if (
            self._follows_the_weight(layer)
            and layer.groups == 1
            and (layer.weight.numel() < x.numel())
        ):
            gate = self.value()
            layer.weight = layer.weight * _per_channel(
                gate, layer.weight, 0 if layer.transposed else 1
            )
            return args
        return (x * _per_channel(self.value(), x), *rest)


def _identity(mask: ChannelMask) -> Tensor:
    entries = torch.arange(mask.present, device='cpu')
    return entries[:, None] + OPEN + 1


class OutputGate(Gate):
    """The gate on what a masked layer writes."""


class FollowerGate(Gate):
    """The gate on what an unmasked layer adds to masked channels (the
    last one of self-attention)."""


class InputGate(Gate):
    """The gate on what a layer reads."""


hooks.allow(Gate)


def _per_channel(gate: Tensor, x: Tensor, dim: int = 1) -> Tensor:
    shape = [-1 if d == dim % x.ndim else 1 for d in range(x.ndim)]
    return gate.to(x.dtype).view(shape)


# -- on a layer


def mask_of(layer: nn.Module) -> Optional[ChannelMask]:
    """The mask that a layer owns."""
    mask = getattr(layer, 'mask', None)
    return mask if isinstance(mask, ChannelMask) else None


def output_gate(layer: nn.Module) -> Optional[OutputGate]:
    """The gate on what a layer writes."""
    return _owner(layer._forward_hooks, OutputGate)


def follower_gate(layer: nn.Module) -> Optional[FollowerGate]:
    """The gate on what a layer only adds to channels."""
    return _owner(layer._forward_hooks, FollowerGate)


def input_gate(layer: nn.Module) -> Optional[InputGate]:
    """The gate on what a layer reads."""
    return _owner(layer._forward_pre_hooks, InputGate)


def _owner(registered: dict, kind: type):
    owners = (getattr(h, '__self__', None) for h in registered.values())
    return next((owner for owner in owners if isinstance(owner, kind)), None)


def set_output_gate(layer: nn.Module, gate: OutputGate) -> None:
    """Exchange the gate on what a layer writes."""
    _remove(layer._forward_hooks, OutputGate)
    layer.register_forward_hook(gate.mask_output)


def set_follower_gate(layer: nn.Module, gate: FollowerGate) -> None:
    """Exchange the gate on what a layer only adds to channels."""
    _remove(layer._forward_hooks, FollowerGate)
    layer.register_forward_hook(gate.mask_output)


def set_input_gate(layer: nn.Module, gate: InputGate) -> None:
    """Exchange the gate on what a layer reads."""
    _remove(layer._forward_pre_hooks, InputGate)
    layer.register_forward_pre_hook(gate.mask_input)


def unlink(layer: nn.Module) -> None:
    """Remove the gates that follow from masks of other layers."""
    _remove(layer._forward_hooks, FollowerGate)
    _remove(layer._forward_pre_hooks, InputGate)


def take_off(layer: nn.Module) -> None:
    """Remove everything that masks what a layer writes or reads."""
    _remove(layer._forward_hooks, OutputGate)
    unlink(layer)
    if mask_of(layer) is not None:
        del layer.mask


def _remove(registered: dict, kind: type) -> None:
    for key, hook in list(registered.items()):
        if isinstance(getattr(hook, '__self__', None), kind):
            del registered[key]


def add_mask(layer: nn.Module, channels: int) -> ChannelMask:
    """Give a layer a mask of its own."""
    mask = ChannelMask(channels).to(next(layer.parameters()).device)
    layer.add_module('mask', mask)
    return mask


_hangs_masks = ContextVar('hangs_masks', default=True)


@contextmanager
def without_masks() -> Iterator[None]:
    """What is built inside of this context carries no masks, whatever its
    config says.

    Example:
        >>> with without_masks():
        ...     student = MODELS.build(
        ...         dict(type='PPResSAGANGenerator', output_scale=32, num_classes=3)
        ...     )
        >>> list(named_masks(student))
        []
    """
    token = _hangs_masks.set(False)
    try:
        yield
    finally:
        _hangs_masks.reset(token)


def hangs_masks() -> bool:
    """Whether masks are hung at all, see :func:`without_masks`."""
    return _hangs_masks.get()


def hang_mask(layer: _ConvNd) -> None:
    """Give a convolution a mask with a score for each of its channels."""
    mask = mask_of(layer) or add_mask(layer, layer.out_channels)
    set_output_gate(layer, OutputGate.of(mask))


def share_mask(owner: _ConvNd, other: _ConvNd) -> None:
    """Let ``other`` use the mask of ``owner`` in place of its own."""
    mask = mask_of(owner)
    if mask is None or mask.channels != other.out_channels:
        raise PPCDError(
            f'Cannot share a mask of {mask and mask.channels} channels with a '
            f'convolution of {other.out_channels} output channels.'
        )
    take_off(other)
    set_output_gate(other, OutputGate.of(mask))


# -- on a module


def convolutions(module: nn.Module) -> Dict[str, _ConvNd]:
    """Convolutions by name."""
    return {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, _ConvNd)
    }


def short_name(name: str) -> str:
    """The convolution of a ConvModule goes by the module's name."""
    return name.removesuffix('.conv')


# what can carry a mask, in words
_KINDS: Dict[type, str] = {_ConvNd: 'convolution', nn.Linear: 'linear layer'}


def matching_layers(
    module: nn.Module,
    patterns: Union[str, Sequence[str]],
    what: str,
    kinds: Sequence[type],
) -> List[str]:
    """Names of the layers that a pattern names.

    Args:
        module (nn.Module): Any module.
        patterns (str | Sequence[str]): Names or ``fnmatch`` patterns, such as
            ``'conv_blocks.*.conv_1'``. ``*`` stands for any part of a name,
            dots included. The convolution of a ConvModule goes by the name
            of the module.
        what (str): Name of the argument, for the message.
        kinds (Sequence[type]): Of layers: ``_ConvNd``, ``nn.Linear``.

    Raises:
        PPCDError: If a pattern matches no such layer.
    """
    kind = ' or '.join(_KINDS[each] for each in kinds)
    names = [
        name
        for name, child in module.named_modules()
        if isinstance(child, tuple(kinds))
    ]
    found: List[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = [
            name
            for name in names
            if name == pattern or fnmatch(short_name(name), pattern)
        ]
        if not matched:
            has = ', '.join(map(short_name, names)) or f'no {kind}'
            raise PPCDError(
                f'{what}: no {kind} matches "{pattern}" in '
                f'{type(module).__name__}; it has: {has}.'
            )
        found += matched
    return [name for name in names if name in found]


def named_masks(module: nn.Module) -> Iterator[Tuple[str, ChannelMask]]:
    """Every mask once, by the name of the layer that owns it.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> _ = mask_channels(net, torch.zeros(1, 3, 4, 4))
        >>> [(name, mask.channels) for name, mask in named_masks(net)]
        [('0', 8)]
    """
    for name, child in module.named_modules():
        if isinstance(child, ChannelMask):
            yield short_name(name.removesuffix('.mask')), child


def output_gates(module: nn.Module) -> Dict[str, OutputGate]:
    """The gates of all masked layers, by their full names."""
    gates = {name: output_gate(layer) for name, layer in module.named_modules()}
    return {name: gate for name, gate in gates.items() if gate is not None}


def copy_masks(source: nn.Module, target: nn.Module) -> None:
    """Copy what is pruned in ``source`` to the masks of ``target``, which are
    to be the same by name and size, as in a copy.

    Raises:
        PPCDError: If they are not; nothing is copied then.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> masks = mask_channels(net, torch.zeros(1, 3, 4, 4)).masks
        >>> ema = copy.deepcopy(net)
        >>> masks['0'].prune(6)
        >>> copy_masks(net, ema)
        >>> dict(named_masks(ema))
        {'0': ChannelMask(8, pruned=6)}
    """
    theirs, ours = dict(named_masks(source)), dict(named_masks(target))
    differ = sorted(
        name
        for name in theirs.keys() | ours.keys()
        if _size(theirs.get(name)) != _size(ours.get(name))
    )
    if differ:
        raise PPCDError(
            f'The masks of {type(source).__name__} do not fit '
            f'{type(target).__name__}: {differ[0]} has '
            f'{_size(theirs.get(differ[0]))} entries in the one and '
            f'{_size(ours.get(differ[0]))} in the other'
            f'{f", and {len(differ) - 1} more differ" if differ[1:] else ""}. '
            'Give two models of one config that were cut alike.'
        )
    for name, mask in theirs.items():
        ours[name].pruned.copy_(mask.pruned)


def _size(mask: Optional[ChannelMask]) -> int:
    return 0 if mask is None else mask.present


# -- gates from an analysis


def read_gates(module: nn.Module, analysis: Analysis) -> Dict[str, InputGate]:
    """The gates of all layers that read masked channels."""
    gates = {}
    for name, cells in analysis.reads.items():
        writers = [
            analysis.cells.writers[cell]
            if analysis.cells.is_closed(cell)
            else None
            for cell in cells.tolist()
        ]
        normed = [analysis.cells.normed[cell] for cell in cells.tolist()]
        if any(writers):
            gates[name] = _gate_for(module, writers, InputGate, normed)
    return gates


def follower_gates(
    module: nn.Module, analysis: Analysis
) -> Dict[str, FollowerGate]:
    """The gates of all layers that add to nothing but masked channels."""
    writers = analysis.writers_of_atoms()
    gates = {}
    for name in analysis.followers & set(analysis.writes):
        found = [
            writers.get(analysis.cells.root(cell))
            for cell in analysis.writes[name].tolist()
        ]
        if any(found):
            gates[name] = _gate_for(module, found, FollowerGate)
    return gates


def _gate_for(
    module: nn.Module,
    writers: list,
    kind: Type[_Gate],
    normed: Optional[list] = None,
) -> _Gate:
    """The gate of channels with these writers; None is always open."""
    names = dict.fromkeys(n for each in writers for n, _ in each or ())
    present = output_gates(module)
    gates = {name: present[name] for name in names}
    masks = list(
        dict.fromkeys(mask for gate in gates.values() for mask in gate.masks)
    )
    starts, offset = {}, OPEN + 1
    for mask in masks:
        starts[mask] = offset
        offset += mask.present
    entries = {name: _entries(gate, starts) for name, gate in gates.items()}
    rows = [
        [OPEN]
        if each is None
        else sorted({e for name, i in each for e in entries[name][i]})
        for each in writers
    ]
    trained = [
        {e for name, i in each & behind for e in entries[name][i]}
        if each
        else set()
        for each, behind in zip(writers, normed or [frozenset()] * len(rows))
    ]
    longest = max(map(len, rows))
    padded = [row + [CLOSED] * (longest - len(row)) for row in rows]
    return kind(
        masks,
        torch.tensor(padded, device='cpu'),
        normed=torch.tensor(
            [[e in own for e in row] for row, own in zip(padded, trained)],
            device='cpu',
        )
        & (torch.tensor([len(row) > 1 for row in rows], device='cpu')[:, None]),
    )


def _entries(gate: Gate, starts: Dict[ChannelMask, int]) -> List[List[int]]:
    """Rows of a gate as entries of a table that begins its masks at
    ``starts``."""
    where = [CLOSED, OPEN] + [
        starts[mask] + i for mask in gate.masks for i in range(mask.present)
    ]
    return [
        [where[e] for e in row if e > CLOSED] for row in gate.index.tolist()
    ]


def tie(
    module: nn.Module, analysis: Analysis, names: Sequence[str]
) -> Dict[str, OutputGate]:
    """Output gates with one score for all that can only leave together.

    The first layer that writes an atom owns its score, one that has a mask
    before one that has none; one all of whose channels are owned by others
    needs no mask. Channels that can never leave have a score each.

    Args:
        names (Sequence[str]): The masked layers. Those that own a score need
            a mask, see :func:`hang_tied_masks`.

    Raises:
        PPCDError: If the masks that there are do not fit.
    """
    rows = _owners(module, analysis, names)
    owned = _owned(rows)
    for name in rows:
        mask = mask_of(module.get_submodule(name))
        _require_entries(name, mask.present if mask else 0, owned[name])
    return {name: _tied_gate(module, row) for name, row in rows.items()}


def _require_entries(name: str, present: int, count: int) -> None:
    """Refuse a mask that was made for other channels: entries that no gate
    asks for would count as channels all the same."""
    if present != count:
        raise PPCDError(
            f'The mask of {name} has {present} entries for {count} that can '
            'leave one by one: it was made for other layers; attach the masks '
            'of all at once.'
        )


def hang_tied_masks(
    module: nn.Module, analysis: Analysis, names: Sequence[str]
) -> None:
    """Give masks to the layers that own a score and have none yet.

    Apart from :func:`tie`, because that is called in the middle of a training
    as well: a mask that came then would be in no optimizer.
    """
    owned = _owned(_owners(module, analysis, names))
    masks = {name: mask_of(module.get_submodule(name)) for name in names}
    for name, mask in masks.items():
        if mask is not None:
            _require_entries(name, mask.present, owned[name])
    for name, count in owned.items():
        if masks[name] is None:
            add_mask(module.get_submodule(name), count)


Owner = Tuple[str, int]  # a layer with a mask and one of its entries


def _owners(
    module: nn.Module, analysis: Analysis, names: Sequence[str]
) -> Dict[str, List[Owner]]:
    """What decides over each channel of the masked layers."""
    before = _masks_before(module, names)
    never: Dict[int, bool] = {}
    known: Dict[int, List[Owner]] = defaultdict(list)
    owned: Dict[str, int] = defaultdict(int)
    rows: Dict[str, List[Owner]] = {}
    for name in _owners_first(module, analysis, names):
        masks = before.get(name, {})
        only = _only_entry(masks)
        rows[name] = []
        for cell in analysis.writes[name].tolist():
            root = analysis.cells.root(cell)
            if root not in never:
                never[root] = analysis.why_not(root) is not None
            owner = only or next(
                (o for o in known[root] if not never[root] or o[0] in masks),
                None,
            )
            if owner is None:
                owner = name, owned[name]
                owned[name] += 1
            if only or not never[root]:
                known[root].append(owner)
            rows[name].append(owner)
    return rows


def _owners_first(
    module: nn.Module, analysis: Analysis, names: Sequence[str]
) -> List[str]:
    """In the order in which they write, but those that have a mask first: it
    was there before those that are to come, and may have been trained."""
    chosen = set(names)
    return sorted(
        (name for name in analysis.writes if name in chosen),
        key=lambda name: mask_of(module.get_submodule(name)) is None,
    )


def _masks_before(
    module: nn.Module, names: Sequence[str]
) -> Dict[str, Dict[str, ChannelMask]]:
    """By layer, the masks that decided over its channels until now, by the
    layers that own them."""
    layers = {name: module.get_submodule(name) for name in names}
    owners = {mask_of(layer): name for name, layer in layers.items()}
    gates = {name: output_gate(layer) for name, layer in layers.items()}
    return {
        name: {owners[mask]: mask for mask in gate.masks if mask in owners}
        for name, gate in gates.items()
        if gate is not None and gate.tied
    }


def _only_entry(masks: Dict[str, ChannelMask]) -> Optional[Owner]:
    """What decides over all channels of a layer, where one entry is left.

    The analysis has nothing to say then: with a single channel, what is one
    value for all and what is one for each (a gain, a depthwise convolution)
    look the same.
    """
    left = [name for name, mask in masks.items() for _ in range(mask.present)]
    return (left[0], 0) if len(left) == 1 else None


def _owned(rows: Dict[str, List[Owner]]) -> Counter:
    """How many scores each layer owns."""
    owners = dict.fromkeys(owner for row in rows.values() for owner in row)
    return Counter(name for name, _ in owners)


def _tied_gate(module: nn.Module, row: List[Owner]) -> OutputGate:
    used = dict.fromkeys(owner for owner, _ in row)
    masks, starts, offset = [], {}, OPEN + 1
    for owner in used:
        mask = mask_of(module.get_submodule(owner))
        assert mask is not None
        masks.append(mask)
        starts[owner] = offset
        offset += mask.present
    index = torch.tensor(
        [[starts[owner] + i] for owner, i in row], device='cpu'
    )
    return OutputGate(masks, index, tied=True)
