import random
from typing import Any, Callable, Iterator, Optional

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.registry import HOOKS

# else noise and transforms of an iteration would be drawn from equal numbers
_OF_DATA = 1


class _Seeded:
    """An iterator that seeds before each step."""

    def __init__(self, iterator: Iterator, seed: Callable[[], None]) -> None:
        self._iterator = iterator
        self._seed = seed

    def __next__(self) -> Any:
        self._seed()
        return next(self._iterator)


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seeds the random generators before every training iteration, and before
    its data are read.

    The seed is drawn from the run's seed, the rank and the iteration. MMEngine
    does not save random states, and samples drawn for pictures and metrics
    shift them; with this hook a run that was killed and resumed sees the same
    noise as one that was not, and the same random transforms of the data: in
    workers they repeat with the run's seed.

    Example:
        >>> default_hooks = dict(iter_seed=dict(type='IterSeedHook'))
        >>> HOOKS.build(default_hooks['iter_seed']).priority
        'HIGHEST'
    """

    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Without workers data are read in this process, between iterations."""
        loop: Any = runner.train_loop
        iterator = getattr(loop, 'dataloader_iterator', None)
        if iterator is not None and loop.dataloader.num_workers == 0:
            loop.dataloader_iterator = _Seeded(
                iterator, lambda: self._seed(runner, _OF_DATA)
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        self._seed(runner)

    def _seed(self, runner: Runner, *stream: int) -> None:
        entropy = [runner.seed or 0, get_rank(), runner.iter, *stream]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
