"""Which mask entries have to fall together for channels to leave, and which
of those are interchangeable.

A *unit* is what can be discarded by itself: the entries of all masks that
decide over one atom (see :mod:`.analysis`). Units with channels in the same
places form a *group*; every side of a layer is made of whole groups, so that
their widths decide over all others.
"""

from collections import defaultdict
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from .linking import Channels
from .masks import OPEN, Gate, input_gate, output_gates

Entry = Tuple[str, int]  # a mask, by its convolution, and one of its entries
Unit = Tuple[Entry, ...]


class Group(NamedTuple):
    """Units that leave the same layers.

    Attributes:
        key (frozenset): What tells it from other groups, also after units
            have been removed.
        units (list): The entries of each.
        places (dict): Channels that leave with a unit, by (owner, side) as in
            :class:`~ppcd_mmagic.channels.analysis.Analysis`. Nothing where
            the channels can only be zeroed.
    """

    key: frozenset
    units: List[Unit]
    places: Dict[tuple, int]


def groups_of(channels: Channels) -> List[Group]:
    """All entries of all masks, in groups, in the order of the masks.

    Entries over channels that can never leave form a group of their own for
    each mask, each entry a unit.
    """
    atoms = _entries_of_atoms(channels)
    units = _join(atoms)
    places: List[Dict[tuple, int]] = [defaultdict(int) for _ in units]
    unit_of = {
        root: number
        for number, (_, roots) in enumerate(units)
        for root in roots
    }
    for side, (cells, *_) in channels.analysis.holds.items():
        for cell in cells.tolist():
            number = unit_of.get(channels.analysis.cells.root(cell))
            if number is not None:
                places[number][side] += 1
    order = {name: number for number, name in enumerate(channels.masks)}
    groups: Dict[frozenset, Group] = {}
    for (entries, _), where in zip(units, places):
        unit = tuple(sorted(entries, key=lambda e: (order[e[0]], e[1])))
        key = frozenset(where.items())
        groups.setdefault(key, Group(key, [], dict(where))).units.append(unit)
    found = [*groups.values(), *_stuck(channels, atoms)]
    for group in found:
        group.units.sort(key=lambda unit: (order[unit[0][0]], unit[0][1]))
    return sorted(
        found,
        key=lambda group: (order[group.units[0][0][0]], group.units[0][0][1]),
    )


def _entries_of_atoms(channels: Channels) -> Dict[int, Set[Entry]]:
    """By root of an atom that can leave, the entries that decide over it."""
    analysis = channels.analysis
    root = analysis.cells.root
    names = {mask: name for name, mask in channels.masks.items()}
    found: Dict[int, Set[Entry]] = defaultdict(set)
    can_leave: Dict[int, bool] = {}

    def note(gate: Optional[Gate], cells: list) -> None:
        if gate is None:
            return
        places = [
            (names[mask], i) for mask in gate.masks for i in range(mask.present)
        ]
        for row, cell in zip(gate.index.tolist(), cells):
            atom = root(cell)
            if atom not in can_leave:
                can_leave[atom] = analysis.why_not(atom) is None
            if can_leave[atom]:
                found[atom].update(
                    places[e - OPEN - 1] for e in row if e > OPEN
                )

    for name, cells in analysis.reads.items():
        note(input_gate(channels.module.get_submodule(name)), cells.tolist())
    for name, gate in output_gates(channels.module).items():
        note(gate, analysis.writes[name].tolist())
    return {atom: entries for atom, entries in found.items() if entries}


def _join(atoms: Dict[int, Set[Entry]]) -> List[Tuple[Set[Entry], List[int]]]:
    """Atoms with an entry in common as one unit: entries and atoms."""
    unit_of: Dict[Entry, Tuple[Set[Entry], List[int]]] = {}
    for atom, entries in atoms.items():
        whole: Tuple[Set[Entry], List[int]] = (set(entries), [atom])
        for other in {
            id(u): u for u in map(unit_of.get, entries) if u is not None
        }.values():
            whole[0].update(other[0])
            whole[1].extend(other[1])
        unit_of.update(dict.fromkeys(whole[0], whole))
    return list({id(unit): unit for unit in unit_of.values()}.values())


def _stuck(channels: Channels, atoms: Dict[int, Set[Entry]]) -> List[Group]:
    """Entries over channels that can only be zeroed, by mask."""
    leaving = set().union(*atoms.values()) if atoms else set()
    found = []
    for name, mask in channels.masks.items():
        units: List[Unit] = [
            ((name, i),)
            for i in range(mask.present)
            if (name, i) not in leaving
        ]
        if units:
            found.append(Group(frozenset([(name, 'mask')]), units, {}))
    return found
