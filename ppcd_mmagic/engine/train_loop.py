from typing import Any, Iterator, Sequence

import torch.nn as nn
from mmengine.runner import IterBasedTrainLoop

from ppcd_mmagic.building import building
from ppcd_mmagic.registry import LOOPS
from .lost_processes import lost_processes_named


class _Past:
    """An iterator before which some empty steps have been put."""

    def __init__(self, steps: int, iterator: Iterator) -> None:
        self._left = steps
        self._iterator = iterator

    def __next__(self) -> Any:
        if self._left:
            self._left -= 1
            return None
        return next(self._iterator)


@LOOPS.register_module()
class ResumableTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop over iterations, which finds its place without reading
    the data before it.

    MMEngine's reads every past batch and throws it away. This one tells the
    sampler where to begin, if that is a :class:`ResumableSampler`.
    """

    dataloader_iterator: Any

    def run(self) -> nn.Module:
        self._began = self._iter
        sampler = self.dataloader.sampler
        if self._iter > 0 and hasattr(sampler, 'start_at'):
            sampler.start_at(self._iter * self.dataloader.batch_size)
            # one that began at the start was made with the loop
            afresh = type(self.dataloader_iterator)(self.dataloader)
            self.dataloader_iterator = _Past(self._iter, afresh)
        return super().run()

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """One iteration. What fails in the very first one is laid to the
        config, as what fails before it."""
        if self._iter > self._began:
            super().run_iter(data_batch)
            return
        with building('the first iteration'), lost_processes_named():
            super().run_iter(data_batch)
