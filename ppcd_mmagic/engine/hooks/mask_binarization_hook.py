import math
from typing import Any, Callable, Dict, List, Optional

import torch.nn as nn
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.channels import (
    ChannelMask,
    copy_masks,
    is_linked,
    link_masks,
    named_masks,
    rehearse,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import (
    TrainedGenerator,
    example_inputs,
    generators_of,
)
from ppcd_mmagic.registry import HOOKS
from .pruning_plan import PruningPlan, cap


def _below_threshold(mask: ChannelMask, threshold: float) -> int:
    low = (mask.weight <= threshold) | mask.pruned
    return int(low.sum()) + mask.num_removed


SCHEDULES: Dict[str, Callable[[float], float]] = {
    'linear': lambda progress: progress,
    'cubic': lambda progress: 1 - (1 - progress) ** 3,
}


@HOOKS.register_module()
class MaskBinarizationHook(Hook):
    """BINARIZEMASK of Procedure 1: prunes channels while training proceeds.

    Runs after the iteration, on every mask of the generator (of all, where a
    model has several), always pruning the lowest scores. What is pruned stays
    pruned; no mask ever loses more than ``floor(alpha * c)`` of its c
    channels, nor its last one. All state lives in the masks, so a resumed run
    continues exactly. The EMA generator's masks follow, and every rank takes
    those of rank 0.

    Args:
        alpha (float, optional): Compression ratio threshold, the largest
            fraction of a mask that may be pruned, in [0, 1). Has to be given
            unless ``budget`` is, and is 0.9 then.
        schedule (str, optional): 'threshold' prunes scores at or below
            ``threshold`` (Eq. 3; reconstruction); 'linear' and 'cubic' (Zhu
            and Gupta, 2017) raise the pruned fraction from 0 to alpha, or
            lower what is left from 1 to the budget, between ``begin`` and
            ``end``. Defaults to 'threshold', and with a budget, which a
            threshold cannot promise, to 'cubic'.
        threshold (float): Scores start at 1. Only for schedule 'threshold'.
            Defaults to 0.5.
        interval (int): Iterations between two binarizations. Defaults to 1.
        begin (int): Iteration after which pruning starts. Defaults to 0.
        end (int, optional): Iteration at which it is complete and after which
            nothing more is pruned. None means the last one of the training.
        multiple_of (int): The numbers of channels that the masks leave alive,
            and those of the exported layers, are multiples of this (beyond
            the paper). A mask keeps the number it was built with until the
            schedule allows for a multiple below it: with 8, one of 90
            channels goes from 90 to 88, and one of 8 or fewer is never
            pruned. Fewer are pruned than alpha allows where that is no
            multiple, never more. Channels that can only leave together fall
            together then, also where each has a score in several masks (the
            highest counts). Defaults to 1: every mask by itself.
        budget (dict, optional): What the exported generator may have:
            ``dict(multiply_adds=0.25)`` or ``dict(parameters=0.25)``, a
            fraction of the dense generator's in (0, 1), or a whole number of
            them (beyond the paper). The weakest channels fall, whatever their
            layer, none beyond alpha; scores are compared as in LAMP (Lee et
            al., ICLR 2021), by what a channel saves. Less is left than the
            budget by no more than the last channels that fell. Of several
            generators each has this budget. See
            :func:`~ppcd_mmagic.channels.remaining_complexity` for what is
            counted.

    Raises:
        PPCDError: If an argument is out of its range, the generator has no
            masks, or the budget cannot be met, or not be missed.

    Example:
        >>> hook = HOOKS.build(
        ...     dict(
        ...         type='MaskBinarizationHook', alpha=0.6, schedule='linear',
        ...         begin=1000, end=2000,
        ...     )
        ... )
        >>> mask = ChannelMask(64)
        >>> [hook.target(mask, done) for done in (1000, 1500, 2000, 3000)]
        [0, 19, 38, 38]
        >>> HOOKS.build(dict(type='MaskBinarizationHook', alpha=6))
        Traceback (most recent call last):
        ppcd_mmagic.errors.PPCDError: alpha=6 must be in [0, 1): it is the largest
        fraction of the channels of a mask that may be pruned.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        alpha: Optional[float] = None,
        schedule: Optional[str] = None,
        threshold: float = 0.5,
        interval: int = 1,
        begin: int = 0,
        end: Optional[int] = None,
        multiple_of: int = 1,
        budget: Optional[dict] = None,
    ) -> None:
        if budget is not None:
            _check_budget(budget)
        elif alpha is None:
            raise PPCDError(
                'MaskBinarizationHook needs alpha, the largest fraction of '
                'the channels of a mask that may be pruned, or a budget.'
            )
        alpha = 0.9 if alpha is None else alpha
        if schedule is None:
            schedule = 'threshold' if budget is None else 'cubic'
        if not 0 <= alpha < 1:
            raise PPCDError(
                f'alpha={alpha} must be in [0, 1): it is the largest fraction '
                'of the channels of a mask that may be pruned.'
            )
        if schedule not in ('threshold', *SCHEDULES):
            raise PPCDError(
                f'schedule="{schedule}" must be one of '
                f'{("threshold", *SCHEDULES)}.'
            )
        if budget is not None and schedule == 'threshold':
            raise PPCDError(
                'schedule="threshold" cannot promise a budget, for it prunes '
                'what training has pushed down: take "linear" or "cubic".'
            )
        if interval < 1:
            raise PPCDError(f'interval={interval} must be at least 1.')
        if not _is_whole(multiple_of) or multiple_of < 1:
            raise PPCDError(
                f'multiple_of={multiple_of} must be a whole '
                'number of at least 1.'
            )
        if begin < 0 or (end is not None and end <= begin):
            raise PPCDError(
                f'begin={begin} must be at least 0 and before end={end}.'
            )
        self.alpha = alpha
        self.schedule = schedule
        self.threshold = threshold
        self.interval = interval
        self.begin = begin
        self.end = end
        self.multiple_of = multiple_of
        self.budget = budget
        self._plans: Dict[str, PruningPlan] = {}

    def before_run(self, runner: Runner) -> None:
        """Link masks across blocks where the generator did not."""
        for generator in masked_generators(runner, type(self).__name__):
            for module in generator.both:
                if not is_linked(module):
                    link_masks(module, example_inputs(module))
            if self.budget is not None or self.multiple_of > 1:
                # of the sizes that it was built with: a checkpoint to resume
                # from, which may be of a shrunk one, is loaded after this
                self._plans[generator.name] = PruningPlan(
                    generator.module,
                    self.alpha,
                    self.multiple_of,
                    *(self.budget or ()),
                )

    def before_train(self, runner: Runner) -> None:
        if self.end is None:
            self.end = runner.max_iters
        if self.end <= self.begin:
            raise PPCDError(
                f'begin={self.begin} must be before the end of the training '
                f'at iteration {self.end}.'
            )
        for name, plan in self._plans.items():
            if self.budget is not None:
                self._require_reachable(name, plan)
        for generator in masked_generators(runner, type(self).__name__):
            module = generator.module
            rehearse(module, example_inputs(module), self.alpha)
        self._mean = _mean_sparsity(generators_of(runner.model))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        done = runner.iter + 1
        generators = generators_of(runner.model)
        if self._is_due(done):
            self._binarize(runner, generators, done)
        for generator in generators:
            if generator.ema is not None:
                copy_masks(generator.module, generator.ema)
        runner.message_hub.update_scalar('train/sparsity', self._mean)

    def _is_due(self, done: int) -> bool:
        assert self.end is not None
        return self.begin < done <= self.end and (
            (done - self.begin) % self.interval == 0 or done == self.end
        )

    def _binarize(
        self, runner: Runner, generators: List[TrainedGenerator], done: int
    ) -> None:
        # counting waits for the GPU, so here and not every iteration
        before = _sparsities(generators)
        for generator in generators:
            self._prune(generator, done)
        for mask in _all_masks(generators).values():
            broadcast(mask.pruned)
        after = _sparsities(generators)
        if after != before:
            self._mean = _mean_sparsity(generators)
            runner.visualizer.add_scalars(after, step=done)

    def _prune(self, generator: TrainedGenerator, done: int) -> None:
        plan = self._plans.get(generator.name)
        if plan is None:
            for _, mask in named_masks(generator.module):
                mask.prune(self.target(mask, done))
        elif self.budget is None:
            plan.prune_groups(
                lambda built, below: self._count(built, below, done)
            )
        else:
            budget = self._budget_of(plan)
            share = self._progress(done)
            plan.prune_to(plan.dense + share * (budget - plan.dense), budget)

    def _budget_of(self, plan: PruningPlan) -> float:
        """In parameters or multiply-adds."""
        (value,) = (self.budget or {}).values()
        # 0.3 * 50 is 15.000...: and 14.999... would be one atom too few
        return value if _is_whole(value) else value * plan.dense * (1 + 1e-9)

    def _require_reachable(self, name: str, plan: PruningPlan) -> None:
        ((what, value),) = (self.budget or {}).items()
        budget, least = self._budget_of(plan), plan.least()
        if budget < least:
            raise PPCDError(
                f'budget: {what}={value} of {name} cannot be met: with '
                f'alpha={self.alpha} and multiple_of={self.multiple_of} '
                f'{math.ceil(least)} of {round(plan.dense)} '
                f'({least / plan.dense:.4f}) are the least. Raise the budget '
                'or alpha.'
            )
        if budget >= plan.dense:
            raise PPCDError(
                f'budget: {what}={value} is no less than the '
                f'{round(plan.dense)} that {name} has, so that nothing would '
                'be pruned: lower it.'
            )

    def target(self, mask: ChannelMask, done: int) -> int:
        """How many channels of a mask are to be pruned after ``done``
        iterations."""
        return self._count(
            mask.channels,
            lambda threshold: _below_threshold(mask, threshold),
            done,
        )

    def _count(
        self, channels: int, below: Callable[[float], int], done: int
    ) -> int:
        most = cap(self.alpha, channels)
        if self.schedule == 'threshold':
            return min(below(self.threshold), most)
        return min(cap(self.alpha * self._progress(done), channels), most)

    def _progress(self, done: int) -> float:
        """How much of all that falls has to have fallen, in [0, 1]."""
        assert self.end is not None
        return SCHEDULES[self.schedule](
            (done - self.begin) / (self.end - self.begin)
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_budget(budget: Any) -> None:
    kinds = ('multiply_adds', 'parameters')
    if (
        not isinstance(budget, dict)
        or len(budget) != 1
        or not set(budget) <= set(kinds)
    ):
        raise PPCDError(f'budget={budget} must be a dict of one of {kinds}.')
    ((what, value),) = budget.items()
    if (
        not _is_whole(value)
        and not isinstance(value, float)
        or not (value >= 1 if _is_whole(value) else 0 < value < 1)
    ):
        raise PPCDError(
            f'budget: {what}={value} must be a fraction of the dense '
            "generator's in (0, 1), or a whole number of them."
        )


def masked_generators(runner: Runner, who: str) -> List[TrainedGenerator]:
    """The generators of a runner's model that have masks.

    Args:
        runner (Runner): The runner.
        who (str): Who needs them, for the message.

    Raises:
        PPCDError: If there is none.
    """
    generators = generators_of(runner.model)
    masked = [g for g in generators if _has_masks(g.module)]
    if not masked:
        kinds = ', '.join(type(g.module).__name__ for g in generators)
        raise PPCDError(
            f'{who} found no masks in {kinds}: build the generator from '
            'PP-Res blocks or wrap it in MaskedGenerator.'
        )
    return masked


def _has_masks(module: nn.Module) -> bool:
    return any(True for _ in named_masks(module))


def _all_masks(generators: List[TrainedGenerator]) -> Dict[str, ChannelMask]:
    """Masks by name, of several generators with the names of these."""
    return {
        f'{generator.short_name}.{name}'.lstrip('.'): mask
        for generator in generators
        for name, mask in named_masks(generator.module)
    }


def _mean_sparsity(generators: List[TrainedGenerator]) -> float:
    """Fraction pruned of the channels of all masks."""
    masks = _all_masks(generators).values()
    return sum(m.num_pruned for m in masks) / sum(m.channels for m in masks)


def _sparsities(generators: List[TrainedGenerator]) -> dict:
    return {
        f'sparsity/{name}': mask.sparsity
        for name, mask in _all_masks(generators).items()
    }
