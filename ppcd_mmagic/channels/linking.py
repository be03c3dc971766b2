"""Masks on a module: which layers carry one, and what follows from it for all
other layers."""

from difflib import get_close_matches
from typing import Any, Collection, Dict, List, Optional, Sequence, Union

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from ppcd_mmagic.errors import PPCDError
from . import hooks, rules
from . import masks as _masks
from .analysis import Analysis, analyse, record_channels, shared_parameters
from .masks import (
    ChannelMask,
    OutputGate,
    convolutions,
    matching_layers,
    named_masks,
    set_output_gate,
    short_name,
)
from .recording import Recording
from .widths import width

Patterns = Union[str, Sequence[str]]


class Channels:
    """What is masked in a module, what can be discarded, and why not the
    rest; ``print`` it.

    Methods that take a name of a layer raise a PPCDError if there is none of
    that name that writes (or reads) channels.

    Attributes:
        module (nn.Module): The masked module.
        analysis (Analysis): Which of its channels are which.
        masks (dict[str, ChannelMask]): Its masks, by layer.
        left_out (dict[str, str]): Layers that a pattern names but that
            cannot carry a mask, and why.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> channels = mask_channels(net, torch.zeros(1, 3, 4, 4))
        >>> channels.masks['0'].prune(6)
        >>> print(channels)
        Sequential: masks on 1 of 2 convolutions
        0     8 channels  masked, can leave
        1     3 channels  not masked: is the image
    """

    def __init__(
        self,
        module: nn.Module,
        analysis: Analysis,
        left_out: Optional[Dict[str, str]] = None,
    ) -> None:
        self.module = module
        self.analysis = analysis
        self.masks: Dict[str, ChannelMask] = dict(named_masks(module))
        self.left_out = dict(left_out or {})
        self._gates = {
            name: _masks.input_gate(module.get_submodule(name))
            for name in analysis.reads
        }

    @property
    def writers(self) -> List[str]:
        """Layers that write channels, by their full names: convolutions,
        masked or not, linear layers and embeddings."""
        return list(self.analysis.writes)

    @property
    def readers(self) -> List[str]:
        """Layers that read channels, by their full names."""
        return list(self.analysis.reads)

    def leaving(self) -> set:
        """Roots of the atoms that the masks allow to discard now."""
        alive = {
            name: gate.alive().tolist()
            for name, gate in self._gates.items()
            if gate is not None
        }
        return self.analysis.leaving(
            lambda layer, position: alive[layer][position]
        )

    def kept(self) -> Dict[tuple, Tensor]:
        """What stays of everything that loses channels now: indices (c, ) by
        (owner, side), as in :class:`Analysis`. Masks have 'outputs'."""
        leaving = self.leaving()
        kept = {}
        for (owner, side), (cells, *_) in self.analysis.holds.items():
            stays = torch.tensor(
                [self._root(cell) not in leaving for cell in cells.tolist()]
            )
            if not stays.all():
                kept[owner, side] = stays.nonzero().flatten()
        return {**kept, **self._kept_of_masks(leaving)}

    def _kept_of_masks(self, leaving: set) -> Dict[tuple, Tensor]:
        """Entries that any channel that stays still asks for."""
        asked: Dict[ChannelMask, set] = {m: set() for m in self.masks.values()}
        for name, gate in _masks.output_gates(self.module).items():
            places = [
                (mask, i) for mask in gate.masks for i in range(mask.present)
            ]
            for row, cell in zip(
                gate.index.tolist(), self.analysis.writes[name].tolist()
            ):
                if self._root(cell) not in leaving:
                    mask, entry = places[row[0] - _masks.OPEN - 1]
                    asked[mask].add(entry)
        paths = {
            child: name
            for name, child in self.module.named_modules()
            if isinstance(child, ChannelMask)
        }
        return {
            (paths[mask], 'outputs'): torch.tensor(sorted(entries))
            for mask, entries in asked.items()
            if len(entries) < mask.present
        }

    def _root(self, cell: int) -> int:
        return self.analysis.cells.root(cell)

    def why_not(self, name: str) -> Dict[str, int]:
        """Why channels of a layer can never be discarded, whatever its
        mask says: reasons, and how many channels each holds."""
        reasons: Dict[str, int] = {}
        for root in self.atoms_of(name):
            reason = self.analysis.why_it_stays(root)
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + 1
        return reasons

    def leaving_of(self, name: str) -> Tensor:
        """Which channels of a layer can be discarded now, bool
        (c, )."""
        leaving = self.leaving()
        return torch.tensor([root in leaving for root in self.atoms_of(name)])

    def atoms_of(self, name: str) -> List[int]:
        """What the channels of a layer can only leave with: those with
        the same number leave together."""
        name = self._full(name, self.analysis.writes, 'writes')
        return [
            self._root(cell) for cell in self.analysis.writes[name].tolist()
        ]

    def alive_outputs(self, name: str) -> Tensor:
        """Which outputs of a layer its masks leave alive, bool (c, );
        all where it has no mask."""
        name = self._full(name, self.analysis.writes, 'writes')
        gate = _masks.output_gate(self.module.get_submodule(name))
        return (
            gate.alive()
            if gate
            else torch.ones(len(self.analysis.writes[name]), dtype=torch.bool)
        )

    def alive_inputs(self, name: str) -> Tensor:
        """Which inputs of a layer are read, bool (c, )."""
        name = self._full(name, self.analysis.reads, 'reads')
        gate = self._gates[name]
        return (
            gate.alive()
            if gate
            else torch.ones(len(self.analysis.reads[name]), dtype=torch.bool)
        )

    def _full(self, name: str, known: Dict[str, Tensor], does: str) -> str:
        """Of the known layers the one of this name, or of a ConvModule's."""
        for full in (name, f'{name}.conv'):
            if full in known:
                return full
        names = [short_name(each) for each in known]
        close = get_close_matches(name, names) or names
        raise PPCDError(
            f'{type(self.module).__name__} has no layer "{name}" that {does} '
            f'channels, or did not run it; there is: {", ".join(close)}.'
        )

    def _together(self, name: str) -> str:
        """What the channels of a layer can only leave with."""
        roots = self.atoms_of(name)
        own = len(set(roots))
        parts = []
        if own < len(roots):
            parts.append(f'in {own} groups')
        others = [
            short_name(other)
            for other in _masks.output_gates(self.module)
            if other != name and not set(roots).isdisjoint(self.atoms_of(other))
        ]
        if others:
            parts.append('with ' + ', '.join(others))
        return ' '.join(parts)

    def _line(self, name: str, conv: nn.Module) -> str:
        if _masks.output_gate(conv) is None:
            return self.left_out.get(name, 'not masked')
        reasons = self.why_not(name)
        count = len(self.analysis.writes[name])
        if len(reasons) == 1 and count in reasons.values():
            return f'masked, stays: {next(iter(reasons))}'
        stay = '; '.join(
            f'{n} of {count} stay: {why}' for why, n in reasons.items()
        )
        if sum(reasons.values()) == count:
            return f'masked, {stay}'
        line = f'masked, can leave {self._together(name)}'.rstrip()
        return f'{line}, but {stay}' if stay else line

    def __str__(self) -> str:
        convs = convolutions(self.module)
        masked = _masks.output_gates(self.module)
        linears = [name for name in masked if name not in convs]
        named = {
            name: layer
            for name, layer in self.module.named_modules()
            if name in convs or name in linears or name in self.left_out
        }
        widest = max(len(short_name(name)) for name in named)
        lines = [
            f'{short_name(name):{widest}} {width(layer, "outputs"):5d} '
            f'channels  {self._line(name, layer)}'
            for name, layer in named.items()
        ]
        also = (
            f' and {len(linears)} linear layer{"s" * (len(linears) > 1)}'
            if linears
            else ''
        )
        return '\n'.join(
            [
                f'{type(self.module).__name__}: masks on '
                f'{len(masked) - len(linears)} of {len(convs)} '
                f'convolutions{also}',
                *lines,
            ]
        )


def mask_channels(
    module: nn.Module,
    example_inputs: Any,
    convs: Patterns = '*',
    exclude: Patterns = (),
    tie: bool = False,
    linears: Patterns = (),
) -> Channels:
    """Give layers a mask, and gate every layer that reads them.

    Layers whose channels are the output itself are left out of patterns with a
    ``*``, and refused where they are named.

    Args:
        module (nn.Module): Any module that runs on the inputs; changed in
            place.
        example_inputs (Tensor | tuple | dict): A tensor, positional arguments
            (the last may be a dict of keyword arguments), or keyword
            arguments. Two of a batch and small maps are enough.
        convs (str | Sequence[str]): Names or ``fnmatch`` patterns of the
            convolutions to mask. ``*`` crosses dots.
        exclude (str | Sequence[str]): Patterns of those to leave out, linear
            layers among them where ``linears`` names any.
        tie (bool): One score for all channels that can only leave together
            (those that meet in an addition, say), so that each that is pruned
            can be discarded. Defaults to False: a score for each channel.
        linears (str | Sequence[str]): Patterns of linear layers to mask, such
            as ``'noise2feat'``, which makes the first map of the noise. Such a
            layer always has one score for what can only leave together: a
            channel of the map, with all its positions. Defaults to none.

    Returns:
        Channels: What is masked and what can leave; print it.

    Raises:
        PPCDError: If a pattern matches nothing, a named layer writes
            the image or was not run, or the module cannot be recorded.

    Example:
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3))
        >>> print(mask_channels(net, torch.zeros(1, 3, 8, 8)))
        Sequential: masks on 1 of 2 convolutions
        0     8 channels  masked, can leave
        2     3 channels  not masked: is the image
    """
    given = dict(convs=convs, linears=linears, exclude=exclude)
    for what, patterns in given.items():
        _require_patterns(what, patterns)
    present = _masks.output_gates(module)
    for name in convolutions(module):
        if name in present and present[name].tied != tie:
            raise PPCDError(
                f'{name} has a mask of tie={not tie} already; give all masks '
                'of a module the same.'
            )
    with _masks.suspended_gates():
        recording = record_channels(module, example_inputs)
    chosen, left_out = _choose(module, recording, convs, linears, exclude)
    masked = list(dict.fromkeys([*present, *chosen]))
    analysis = analyse(module, recording, masked)
    _require_leaving(module, analysis, chosen, left_out)
    tied = [
        name
        for name in masked
        if name in present
        and present[name].tied
        or name in chosen
        and (tie or isinstance(module.get_submodule(name), nn.Linear))
    ]
    _masks.hang_tied_masks(module, analysis, tied)
    for name, gate in _masks.tie(module, analysis, tied).items():
        set_output_gate(module.get_submodule(name), gate)
    for name in chosen:
        if name not in tied:
            _masks.hang_mask(convolutions(module)[name])
    return link_masks(module, example_inputs, left_out)


def _require_patterns(what: str, given: Any) -> None:
    known = isinstance(given, Collection) and all(
        isinstance(pattern, str) for pattern in given
    )
    if not known:
        raise PPCDError(
            f'{what}={given!r} must be a name or pattern of layers, such as '
            '"*", or a list of them; () names none.'
        )


def _require_leaving(
    module: nn.Module,
    analysis: Analysis,
    names: Sequence[str],
    left_out: Dict[str, str],
) -> None:
    """Refuse masks that could never make anything smaller."""
    stays = dict(left_out)
    for name in names:
        for cell in set(analysis.writes[name].tolist()):
            why = analysis.why_it_stays(analysis.cells.root(cell))
            if why is None:
                return
            stays[name] = why
    raise PPCDError(
        f'No channel of {type(module).__name__} could ever be discarded: '
        f'{_in_words(stays)}. Mask other layers, or teach the layer '
        'with register_rule.'
    )


def _choose(
    module: nn.Module,
    recording: Recording,
    convs: Patterns,
    linears: Patterns,
    exclude: Patterns,
) -> tuple:
    """Names to mask, and reasons for those that a pattern would name."""
    convs, linears = (
        [given] if isinstance(given, str) else list(given)
        for given in (convs, linears)
    )
    patterns = [*convs, *linears]
    kinds = [_ConvNd, nn.Linear] if linears else [_ConvNd]
    excluded = matching_layers(module, exclude, 'exclude', kinds)
    matched = [
        *matching_layers(module, convs, 'convs', [_ConvNd]),
        *matching_layers(module, linears, 'linears', [nn.Linear]),
    ]
    chosen = [name for name in matched if name not in excluded]
    left_out = {name: 'not masked: excluded by name' for name in excluded}
    if not matched:
        raise PPCDError(
            'convs names no convolution, and linears no linear layer: give '
            'names or patterns, such as "*".'
        )
    if not chosen:
        raise PPCDError(
            f'exclude leaves no layer to mask in {type(module).__name__}.'
        )
    exact = {
        name
        for name in chosen
        if name in patterns or short_name(name) in patterns
    }
    ran = {n.target for n in recording.graph.nodes if n.op == 'call_module'}
    shared = shared_parameters(recording)
    unfit = {
        name: shared.get(name)
        or _unfit(module.get_submodule(name), name in ran)
        for name in chosen
        if name not in exact
    }
    for name, why in unfit.items():
        if why:
            left_out[name] = f'not masked: {why}'
            chosen.remove(name)
    analysis = analyse(module, recording, chosen)
    for name in list(chosen):
        if name in analysis.images and name in exact:
            raise PPCDError(
                f'The channels of "{short_name(name)}" are the image '
                f'of {type(module).__name__}; a mask would take away colours. '
                'Leave it out.'
            )
        if name in analysis.images or (
            name not in exact and not analysis.is_read(name)
        ):
            root = analysis.cells.root(int(analysis.writes[name][0]))
            left_out[name] = f'not masked: {analysis.why_it_stays(root)}'
            chosen.remove(name)
    if not chosen:
        given = ' and '.join(
            name
            for name, some in dict(convs=convs, linears=linears).items()
            if some
        )
        raise PPCDError(
            f'{given}: none of the layers of {type(module).__name__} that '
            f'match can carry a mask: {_in_words(left_out)}.'
        )
    return chosen, left_out


def _unfit(layer: nn.Module, ran: bool) -> Optional[str]:
    """Why a layer cannot carry a mask."""
    if not ran:
        return 'not run on the example inputs'
    if rules.rule_of(layer) is None:
        return (
            f'it is a {type(layer).__name__} with a forward of its own, '
            'which no rule knows (register_rule)'
        )
    if hooks.unknown_on(layer):
        return 'it has a hook that is not known'
    return None


def _in_words(left_out: Dict[str, str]) -> str:
    """Reasons, and how many layers each holds for."""
    counts: Dict[str, int] = {}
    for why in left_out.values():
        why = why.removeprefix('not masked: ')
        counts[why] = counts.get(why, 0) + 1
    return '; '.join(f'{why} ({count})' for why, count in counts.items())


def link_masks(
    module: nn.Module,
    example_inputs: Any,
    left_out: Optional[Dict[str, str]] = None,
) -> Channels:
    """Gate every layer that reads masked channels.

    Calling it again replaces the gates of the first call, as when widths or
    masks have changed.

    Args:
        module (nn.Module): With masks; changed in place.
        example_inputs (Tensor | tuple | dict): See :func:`mask_channels`.
        left_out (dict, optional): See :class:`Channels`.

    Example:
        >>> block = dict(type='PPResSNGANGenResBlock', use_cbn=False)
        >>> net = nn.Sequential(
        ...     MODELS.build(dict(block, in_channels=4, out_channels=8)),
        ...     MODELS.build(dict(block, in_channels=8, out_channels=8)),
        ... )
        >>> is_linked(net)
        False
        >>> _ = link_masks(net, torch.zeros(1, 4, 4, 4))
        >>> is_linked(net)
        True
    """
    masked = _masks.output_gates(module)
    if not masked:
        raise PPCDError(
            f'{type(module).__name__} has no masks: give it some '
            'with mask_channels.'
        )
    with _masks.suspended_gates():
        recording = record_channels(module, example_inputs)
    analysis = analyse(module, recording, list(masked))
    tied = [name for name, gate in masked.items() if gate.tied]
    gates = _masks.tie(module, analysis, tied) if tied else {}
    for name, gate in masked.items():
        if name not in gates:
            (owner,) = gate.masks
            gates[name] = OutputGate.of(owner)
        set_output_gate(module.get_submodule(name), gates[name])
    for layer in module.modules():
        _masks.unlink(layer)
    for name, reader in _masks.read_gates(module, analysis).items():
        _masks.set_input_gate(module.get_submodule(name), reader)
    for name, follower in _masks.follower_gates(module, analysis).items():
        _masks.set_follower_gate(module.get_submodule(name), follower)
    return Channels(module, analysis, left_out)


def is_linked(module: nn.Module) -> bool:
    """Whether any layer of a module is gated on what it reads."""
    return any(
        _masks.input_gate(layer) is not None for layer in module.modules()
    )
