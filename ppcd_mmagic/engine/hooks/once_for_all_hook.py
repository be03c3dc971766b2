import random
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.dist import all_reduce, broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import apply_to

from ppcd_mmagic.channels import (
    copy_masks,
    link_masks,
    named_masks,
    remaining_complexity,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import (
    TrainedGenerator,
    batch_norms,
    example_inputs,
    generators_of,
    random_inputs,
    settle_statistics,
    takes_noise,
)
from ppcd_mmagic.registry import HOOKS
from ..validation import require_names, validation_metrics


@HOOKS.register_module()
class OnceForAllHook(Hook):
    """Channel search of GAN Compression (Li et al., CVPR 2020), with masks.

    Every iteration trains a random sub-network, whose masks keep the first
    channels of each layer; sub-networks share weights. After the training
    some within the budget are evaluated, their norms re-calibrated, and the
    best one is what the last checkpoint holds, ready for export. In a
    distributed training all processes take the sub-networks of rank 0.

    Norms are calibrated with fresh noise and classes; where a generator takes
    something else, such as images, with what it was given in the last
    iterations of the training (256 samples at most).

    Args:
        budget (float): Largest fraction of the dense generator's
            multiply-adds, in (0, 1].
        widths (Sequence[float]): Fractions of channels to choose from, each
            in (0, 1]. Defaults to (0.25, 0.375, 0.5, 0.75, 1).
        candidates (int): Sub-networks to evaluate, at least 1. Defaults to 8.
        metric (str): What to minimise, as the validation names it.
            Defaults to 'domain/frechet'.

    Raises:
        PPCDError: If an argument is out of its range, the model has several
            generators, not even the narrowest
            sub-network is within the budget, nothing is validated, the metric
            is not measured or not finite for any sub-network, or there was
            no training to calibrate norms by.

    Example:
        >>> hook = HOOKS.build(
        ...     dict(type='OnceForAllHook', budget=0.5, metric='domain/frechet')
        ... )
        >>> hook.widths
        (0.25, 0.375, 0.5, 0.75, 1.0)
    """

    def __init__(
        self,
        budget: float,
        widths: Sequence[float] = (0.25, 0.375, 0.5, 0.75, 1.0),
        candidates: int = 8,
        metric: str = 'domain/frechet',
    ) -> None:
        if not 0 < budget <= 1:
            raise PPCDError(f'budget={budget} must be in (0, 1].')
        if not widths or not all(0 < width <= 1 for width in widths):
            raise PPCDError(
                f'widths={tuple(widths)} must be one or more in (0, 1].'
            )
        if candidates < 1:
            raise PPCDError(f'candidates={candidates} must be at least 1.')
        self.budget = budget
        self.widths = tuple(widths)
        self.candidates = candidates
        self.metric = metric
        self._metrics: Dict[str, float] = {}
        self._inputs = _LastInputs()

    def before_train(self, runner: Runner) -> None:
        """Refuse what would fail only after the training."""
        if runner.val_loop is None:
            raise PPCDError(
                'OnceForAllHook needs a validation to choose by: '
                'set val_dataloader, val_cfg and val_evaluator.'
            )
        generator = _only(runner).module
        (least,) = _costs(generator, [_everywhere(generator, min(self.widths))])
        if least > self.budget:
            raise PPCDError(
                f'budget={self.budget} cannot be met: with the narrowest of '
                f'widths={self.widths} everywhere {least:.3f} of the '
                'multiply-adds are left. Allow narrower ones or more.'
            )
        require_names(
            validation_metrics(runner),
            [self.metric],
            'metric of OnceForAllHook',
        )
        self._inputs.watch(generator)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        generator = _only(runner).module
        _set_widths(generator, _of_rank_0(self._sample(generator)))
        self._inputs.listens = (
            runner.max_iters - runner.iter <= _LastInputs.MOST
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        # what other hooks run the generator with is no training
        self._inputs.listens = False

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[dict] = None
    ) -> None:
        self._metrics = metrics or {}

    def after_train(self, runner: Runner) -> None:
        generator = _only(runner).module
        self._inputs.remove()
        best, best_value = None, float('inf')
        for widths in _of_rank_0(self._candidates(generator)):
            self._apply(runner, widths)
            runner.val_loop.run()
            value = self._value()
            runner.logger.info(f'widths {widths}: {self.metric} {value:.3f}')
            if value < best_value:
                best, best_value = widths, value
        if best is None:
            raise PPCDError(
                f'{self.metric} is nan or inf for every sub-network, so that '
                'none is the best and none was chosen: the training has '
                'diverged, resume it from an earlier checkpoint.'
            )
        self._apply(runner, best)
        runner.save_checkpoint(
            runner.work_dir, f'iter_{runner.iter}.pth', by_epoch=False
        )

    def _value(self) -> float:
        if self.metric not in self._metrics:
            raise PPCDError(
                f'OnceForAllHook chooses by metric="{self.metric}", which the '
                f'validation does not give; it gives {list(self._metrics)}.'
            )
        return self._metrics[self.metric]

    def _apply(self, runner: Runner, widths: Dict[str, float]) -> None:
        trained = _only(runner)
        tested = trained.both[-1]
        _set_widths(trained.module, widths)
        copy_masks(trained.module, tested)
        _recalibrate(tested, self._calibrating(tested))

    def _calibrating(self, generator: nn.Module) -> Iterable[tuple]:
        if takes_noise(generator):
            return (random_inputs(generator, 64) for _ in range(8))
        if not self._inputs.passes and batch_norms(generator):
            raise PPCDError(
                'OnceForAllHook calibrates norms with what the generator was '
                'trained with in the last iterations, which were none: resume '
                'from an earlier checkpoint.'
            )
        return self._inputs.passes

    def _sample(self, generator: nn.Module) -> Dict[str, float]:
        return {
            name: random.choice(self.widths)
            for name, _ in named_masks(generator)
        }

    def _candidates(self, generator: nn.Module) -> list:
        """Random sub-networks within the budget, close to it first."""
        tried = [_everywhere(generator, min(self.widths))] + [
            self._sample(generator) for _ in range(50 * self.candidates)
        ]
        # few masks of few widths: the same one would be evaluated again
        tried = list({tuple(w.values()): w for w in tried}.values())
        found = [
            pair
            for pair in zip(_costs(generator, tried), tried)
            if pair[0] <= self.budget
        ]
        found.sort(key=lambda pair: -pair[0])
        return [widths for _, widths in found[: self.candidates]]


def _only(runner: Runner) -> TrainedGenerator:
    generators = generators_of(runner.model)
    if len(generators) > 1:
        raise PPCDError(
            'OnceForAllHook searches the widths of one generator, but '
            f'{", ".join(g.name for g in generators)} are trained.'
        )
    return generators[0]


def _everywhere(generator: nn.Module, width: float) -> Dict[str, float]:
    return {name: width for name, _ in named_masks(generator)}


def _set_widths(generator: nn.Module, widths: Dict[str, float]) -> None:
    for name, mask in named_masks(generator):
        kept = max(1, round(widths[name] * mask.channels))
        mask.pruned.fill_(False)
        mask.pruned[kept:] = True


def _of_rank_0(value: Any) -> Any:
    """The same for all processes, whose random numbers differ."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


class _LastInputs:
    """What a generator was given last while it was trained.

    Attributes:
        listens (bool): Whether anything is noted now.
        passes (list): Positional and keyword arguments of each pass.
    """

    MOST = 256  # samples

    def __init__(self) -> None:
        self.listens = False
        self.passes: List[Tuple[tuple, dict]] = []
        self._handle: Any = None

    def watch(self, generator: nn.Module) -> None:
        self._handle = generator.register_forward_pre_hook(
            self._note, with_kwargs=True
        )

    def remove(self) -> None:
        self._handle.remove()

    def _note(self, generator: nn.Module, args: tuple, kwargs: dict) -> None:
        if not self.listens or not torch.is_grad_enabled():
            return
        self.passes.append(
            apply_to((args, kwargs), torch.is_tensor, torch.Tensor.detach)
        )
        while sum(map(_samples, self.passes[1:])) >= self.MOST:
            self.passes.pop(0)


def _samples(inputs: Tuple[tuple, dict]) -> int:
    args, kwargs = inputs
    return next(
        (
            len(value)
            for value in (*args, *kwargs.values())
            if torch.is_tensor(value)
        ),
        1,
    )


def _recalibrate(generator: nn.Module, inputs: Iterable[tuple]) -> None:
    """Norm statistics of one sub-network; training mixed those of all."""
    settle_statistics(generator, inputs)
    for norm in batch_norms(generator):
        for mean in (norm.running_mean, norm.running_var):
            all_reduce(mean, 'mean')


def _costs(
    generator: nn.Module, candidates: Sequence[Dict[str, float]]
) -> List[float]:
    """Multiply-adds of sub-networks, as fractions of the dense network's."""
    channels = link_masks(generator, example_inputs(generator))
    totals = []
    for widths in [_everywhere(generator, 1.0), *candidates]:
        _set_widths(generator, widths)
        totals.append(remaining_complexity(channels)['multiply_adds'])
    return [total / totals[0] for total in totals[1:]]
