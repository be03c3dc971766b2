"""Which channels fall next, where widths or the size of the whole network are
asked for and not a fraction of each mask alone."""

import math
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
import torch
import torch.nn as nn

from ppcd_mmagic.channels import Channels, link_masks, named_masks
from ppcd_mmagic.channels.cost import complexity_terms, width_of
from ppcd_mmagic.channels.groups import Group, groups_of
from ppcd_mmagic.generators import example_inputs


class Cost:
    """Parameters or multiply-adds, as a function of how many units of each
    group live.

    Args:
        channels (Channels): Of a masked module.
        groups (list[Group]): Its groups.
        what (str): 'parameters' or 'multiply_adds'.
    """

    def __init__(
        self, channels: Channels, groups: Sequence[Group], what: str
    ) -> None:
        terms = complexity_terms(channels)[what]
        sides = list(dict.fromkeys(s for term in terms for s in term.sides))
        number = {side: i for i, side in enumerate(sides)}
        self._per_unit = np.zeros((len(sides) + 1, len(groups)))
        for column, group in enumerate(groups):
            for side, count in group.places.items():
                if side in number:
                    self._per_unit[number[side], column] = count
        widths = [width_of(channels, side) for side in sides] + [1]
        self._rest = np.array(widths) - self._per_unit @ [
            len(group.units) for group in groups
        ]
        self._factors = np.array([term.factor for term in terms])
        most = max(len(term.sides) for term in terms)
        none = len(sides)  # a side of one channel that always stays
        self._sides = np.array(
            [
                [number[s] for s in term.sides]
                + [none] * (most - len(term.sides))
                for term in terms
            ]
        )

    def __call__(self, living: np.ndarray) -> float:
        """Where so many units of each group live."""
        widths = self._rest + self._per_unit @ living
        return float(self._factors @ widths[self._sides].prod(1))


class Step(NamedTuple):
    """Units of one group that fall together."""

    group: int
    units: int
    worth: float


class PruningPlan:
    """Prunes the masks of one generator, whole units at a time.

    Nothing is remembered but what the generator was built with, so that a
    resumed run goes on the same way.

    Args:
        module (nn.Module): With masks, of the sizes that it was built with.
        alpha (float): Largest fraction of a group that may be pruned.
        multiple_of (int): What the number of living units of a group is a
            multiple of, once any of them is pruned.
        what (str, optional): What the plan counts.
    """

    def __init__(
        self,
        module: nn.Module,
        alpha: float,
        multiple_of: int,
        what: str = 'parameters',
    ) -> None:
        self.module = module
        self.alpha = alpha
        self.multiple_of = multiple_of
        self.what = what
        self._analyse()
        self._built = {g.key: len(g.units) for g in self.groups}
        self.dense = self.cost(np.array([len(g.units) for g in self.groups]))

    def _sizes(self) -> tuple:
        return tuple(mask.present for _, mask in named_masks(self.module))

    def _analyse(self) -> None:
        channels = link_masks(self.module, example_inputs(self.module))
        self.groups = groups_of(channels)
        self.cost = Cost(channels, self.groups, self.what)
        self._masks = list(channels.masks.values())
        starts = np.cumsum([0, *(mask.present for mask in self._masks)])
        first = dict(zip(channels.masks, starts.tolist()))
        self._entries = [
            np.array(
                _even(
                    [
                        [first[name] + i for name, i in unit]
                        for unit in group.units
                    ]
                )
            )
            for group in self.groups
        ]
        self._analysed = self._sizes()

    def _read(self) -> None:
        """Take over what masks hold now: by group, the living units from the
        lowest score on, and these scores."""
        if self._sizes() != self._analysed:
            self._analyse()  # channels were removed
        scores = torch.cat([m.weight.detach() for m in self._masks])
        pruned = torch.cat([m.pruned for m in self._masks])
        # one transfer from the device
        values = torch.stack([scores.double(), pruned.double()]).cpu().numpy()
        self._living: List[np.ndarray] = []
        self._scores: List[np.ndarray] = []
        for units in self._entries:
            living = units[~values[1, units].astype(bool).all(1)]
            # a channel is wanted while any of its masks wants it
            wanted = values[0, living].max(1)
            order = np.argsort(wanted, kind='stable')
            self._living.append(living[order])
            self._scores.append(wanted[order])

    def _widths(self, group: int) -> Iterator[int]:
        """Numbers of living units that a group may have next, from the
        largest on."""
        now, built = (
            len(self._living[group]),
            self._built.get(self.groups[group].key),
        )
        if built is None:
            return  # it is not known how many it had
        step = self.multiple_of
        least = max(built - cap(self.alpha, built), step)
        for living in range((now - 1) // step * step, 0, -step):
            if living < least:
                return
            yield living

    def _prune(self, counts: Dict[int, int]) -> None:
        """Prune so many living units of each group, the lowest scores."""
        starts = np.cumsum([0, *self._analysed])
        fallen = torch.zeros(int(starts[-1]), dtype=torch.bool)
        for group, count in counts.items():
            fallen[torch.from_numpy(self._living[group][:count].ravel())] = True
        for mask, start in zip(self._masks, starts.tolist()):
            part = fallen[start : start + mask.present]
            if part.any():
                mask.pruned.logical_or_(part.to(mask.pruned.device))

    # -- every group by itself

    def prune_groups(self, target: Callable[[int, Callable], int]) -> None:
        """Prune each group as far as it may be, in whole multiples.

        Args:
            target (Callable): How many are to be pruned of those built:
                ``target(built, below)``, where ``below(threshold)`` counts
                those pruned or with a score at or below a threshold.
        """
        self._read()
        counts = {}
        for number, scores in enumerate(self._scores):
            built = self._built.get(self.groups[number].key, len(scores))

            def below(threshold: float) -> int:
                return built - len(scores) + int((scores <= threshold).sum())

            least = built - target(built, below)
            allowed = [n for n in self._widths(number) if n >= least]
            if allowed:
                counts[number] = len(scores) - allowed[-1]
        self._prune(counts)

    # -- all groups against each other

    def left(self) -> float:
        """What is left of :attr:`what` now."""
        self._read()
        return self.cost(self._now())

    def _now(self) -> np.ndarray:
        return np.array([len(living) for living in self._living])

    def least(self) -> float:
        """What is left where everything is pruned as far as it may be."""
        self._read()
        return self.cost(
            np.array(
                [
                    min(self._widths(number), default=now)
                    for number, now in enumerate(self._now())
                ]
            )
        )

    def prune_to(self, wanted: float, budget: float) -> None:
        """Prune the weakest units, whatever their group, until no more than
        ``wanted`` is left.

        Those that would lead below ``budget`` are passed over for as long as
        others do not.
        """
        self._read()
        now = self._now()
        if self.cost(now) <= wanted:
            return
        steps = sorted(
            (
                step
                for number in range(len(self.groups))
                for step in self._steps(number)
            ),
            key=lambda step: step.worth,
        )
        low, high = 1, len(steps)
        while low < high:
            middle = (low + high) // 2
            if self.cost(_after(now, steps[:middle])) <= wanted:
                high = middle
            else:
                low = middle + 1
        chosen = steps[:low]
        if chosen and self.cost(_after(now, chosen)) < budget:
            chosen = self._without_leap(now, steps, low - 1, wanted, budget)
        pruned = now - _after(now, chosen)
        self._prune(dict(enumerate(pruned.tolist())))

    def _without_leap(
        self,
        now: np.ndarray,
        steps: List[Step],
        count: int,
        wanted: float,
        budget: float,
    ) -> List[Step]:
        """The first so many steps, and further ones in order, but for those
        that would lead below the budget. Where only such are left it is the
        one that leads least below."""
        chosen, living = steps[:count], _after(now, steps[:count])
        leaps: Dict[int, Step] = {}
        for step in steps[count:]:
            if step.group in leaps:
                continue
            after = _after(living, [step])
            cost = self.cost(after)
            if cost < budget:
                leaps[step.group] = step
                continue
            chosen, living = [*chosen, step], after
            if cost <= wanted:
                return chosen
        return chosen + [
            max(
                leaps.values(),
                key=lambda step: self.cost(_after(living, [step])),
            )
        ]

    def _steps(self, group: int) -> Iterator[Step]:
        saved = self._saved(group)
        if saved <= 0:
            return  # nothing would become smaller
        worth = comparable(self._scores[group]) / saved
        now = len(worth)
        start = 0
        for living in self._widths(group):
            yield Step(
                group,
                now - living - start,
                float(worth[start : now - living].mean()),
            )
            start = now - living

    def _saved(self, group: int) -> float:
        """What the next unit of a group saves."""
        now = self._now()
        one = Step(group, 1, 0.0)
        return self.cost(now) - self.cost(_after(now, [one]))


def _even(rows: List[List[int]]) -> List[List[int]]:
    """Rows of one length, their first entries repeated."""
    longest = max(map(len, rows))
    return [row + row[:1] * (longest - len(row)) for row in rows]


def _after(living: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    after = living.copy()
    for step in steps:
        after[step.group] -= step.units
    return after


def cap(alpha: float, channels: int) -> int:
    """How many of so many channels may be pruned."""
    # 0.7 * 90 is 62.999...: the cap must not lose a channel to rounding
    return math.floor(alpha * channels + 1e-6)


def comparable(scores: np.ndarray) -> np.ndarray:
    """Scores of one group on a scale that all groups share.

    That of LAMP (Lee et al., ICLR 2021), of channels in place of weights: a
    squared score as a fraction of all that are not below it. The strongest
    one has 1 in each group, and a group is worth more the fewer are left.

    Args:
        scores (np.ndarray): In ascending order. Below zero counts as zero.
    """
    squares = np.clip(scores, 0, None) ** 2 + 1e-12
    return squares / np.cumsum(squares[::-1])[::-1]
