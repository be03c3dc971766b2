import math
from typing import Dict, List, Optional

import torch.nn as nn
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.channels import (ChannelMask, copy_masks, is_linked,
                                  link_masks, named_masks)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import (TrainedGenerator, example_inputs,
                                    generators_of)
from ppcd_mmagic.registry import HOOKS


def _below_threshold(mask: ChannelMask, threshold: float) -> int:
    low = (mask.weight <= threshold) | mask.pruned
    return int(low.sum()) + mask.num_removed


SCHEDULES = {
    'threshold': None,
    'linear': lambda progress: progress,
    'cubic': lambda progress: 1 - (1 - progress)**3,
}


@HOOKS.register_module()
class MaskBinarizationHook(Hook):
    """BINARIZEMASK of Procedure 1: prunes channels while training proceeds.

    Runs after the iteration, on every mask of the generator (of all, where a
    model has several), always pruning the lowest scores. What is pruned stays pruned; no mask ever loses more
    than ``floor(alpha * c)`` of its c channels, nor its last one. All state
    lives in the masks, so a resumed run continues exactly. The EMA generator's
    masks follow, and every rank takes those of rank 0.

    Args:
        alpha (float): Compression ratio threshold, the largest fraction of a
            mask that may be pruned, in [0, 1).
        schedule (str): 'threshold' prunes scores at or below ``threshold``
            (Eq. 3; reconstruction); 'linear' and 'cubic' (Zhu and Gupta, 2017)
            raise the pruned fraction from 0 to alpha between ``begin`` and
            ``end``. Defaults to 'threshold'.
        threshold (float): Scores start at 1. Only for schedule 'threshold'.
            Defaults to 0.5.
        interval (int): Iterations between two binarizations. Defaults to 1.
        begin (int): Iteration after which pruning starts. Defaults to 0.
        end (int, optional): Iteration at which it is complete and after which
            nothing more is pruned. None means the last one of the training.

    Raises:
        PPCDError: If an argument is out of its range, or the generator has
            no masks.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self,
                 alpha: float,
                 schedule: str = 'threshold',
                 threshold: float = 0.5,
                 interval: int = 1,
                 begin: int = 0,
                 end: Optional[int] = None) -> None:
        if not 0 <= alpha < 1:
            raise PPCDError(
                f'alpha={alpha} must be in [0, 1): it is the largest fraction '
                'of the channels of a mask that may be pruned.')
        if schedule not in SCHEDULES:
            raise PPCDError(f'schedule="{schedule}" must be one of '
                             f'{tuple(SCHEDULES)}.')
        if interval < 1:
            raise PPCDError(f'interval={interval} must be at least 1.')
        if begin < 0 or (end is not None and end <= begin):
            raise PPCDError(
                f'begin={begin} must be at least 0 and before end={end}.')
        self.alpha = alpha
        self.schedule = schedule
        self.threshold = threshold
        self.interval = interval
        self.begin = begin
        self.end = end

    def before_run(self, runner: Runner) -> None:
        """Link masks across blocks where the generator did not."""
        for generator in masked_generators(runner, type(self).__name__):
            for module in generator.both:
                if not is_linked(module):
                    link_masks(module, example_inputs(module))

    def before_train(self, runner: Runner) -> None:
        if self.end is None:
            self.end = runner.max_iters
        if self.end <= self.begin:
            raise PPCDError(
                f'begin={self.begin} must be before the end of the training '
                f'at iteration {self.end}.')
        self._mean = _mean_sparsity(generators_of(runner.model))

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        done = runner.iter + 1
        generators = generators_of(runner.model)
        if self._is_due(done):
            self._binarize(runner, generators, done)
        for generator in generators:
            if generator.ema is not None:
                copy_masks(generator.module, generator.ema)
        runner.message_hub.update_scalar('train/sparsity', self._mean)

    def _is_due(self, done: int) -> bool:
        return self.begin < done <= self.end and (
            (done - self.begin) % self.interval == 0 or done == self.end)

    def _binarize(self, runner: Runner, generators: List[TrainedGenerator],
                  done: int) -> None:
        # counting waits for the GPU, so here and not every iteration
        before = _sparsities(generators)
        for mask in _all_masks(generators).values():
            mask.prune(self.target(mask, done))
            broadcast(mask.pruned)
        after = _sparsities(generators)
        if after != before:
            self._mean = _mean_sparsity(generators)
            runner.visualizer.add_scalars(after, step=done)

    def target(self, mask: ChannelMask, done: int) -> int:
        """How many channels of a mask are to be pruned after ``done``
        iterations."""
        # 0.7 * 90 is 62.999...: the cap must not lose a channel to rounding
        cap = math.floor(self.alpha * mask.channels + 1e-6)
        if self.schedule == 'threshold':
            return min(_below_threshold(mask, self.threshold), cap)
        progress = (done - self.begin) / (self.end - self.begin)
        fraction = self.alpha * SCHEDULES[self.schedule](progress)
        return min(math.floor(fraction * mask.channels + 1e-6), cap)


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
            'PP-Res blocks or wrap it in MaskedGenerator.')
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
