import random
from typing import Optional

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.registry import HOOKS


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seeds the random generators before every training iteration.

    The seed is drawn from the run's seed, the rank and the iteration. MMEngine
    does not save random states, and samples drawn for pictures and metrics
    shift them; with this hook a run that was killed and resumed sees the same
    noise as one that was not. Random transforms of the data repeat as well if
    they run in workers (``num_workers >= 1``).

    Example:
        >>> default_hooks = dict(iter_seed=dict(type='IterSeedHook'))
        >>> HOOKS.build(default_hooks['iter_seed']).priority
        'HIGHEST'
    """

    priority = 'HIGHEST'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        entropy = [runner.seed or 0, get_rank(), runner.iter]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
