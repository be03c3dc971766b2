from typing import Iterator, Optional, Sized

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Endless indices, like MMEngine's ``InfiniteSampler``, which can begin
    anywhere at once.

    The order of each pass through the data is drawn from the seed and the
    number of the pass alone, so what lies before it need not be drawn.

    Args:
        dataset (Sized): The data set.
        shuffle (bool): Whether to shuffle each pass. Defaults to True.
        seed (int, optional): None means one that all processes agree upon.

    Raises:
        PPCDError: If the data set is empty.

    Example:
        >>> sampler = ResumableSampler(range(4), seed=0)
        >>> first = [index for index, _ in zip(sampler, range(8))]
        >>> sorted(first[:4]), sorted(first[4:])
        ([0, 1, 2, 3], [0, 1, 2, 3])
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: Optional[int] = None
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        if not self.size:
            raise PPCDError(
                'The training data is empty: name a folder of '
                'pictures in train_dataloader.dataset.'
            )
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self._start = 0

    def start_at(self, sample: int) -> None:
        """Let iterators that are made from now on begin later.

        Args:
            sample (int): How many samples this process has had.
        """
        self._start = sample

    def __iter__(self) -> Iterator[int]:
        position = self.rank + self._start * self.world_size
        while True:
            number, offset = divmod(position, self.size)
            mine = self._order(number)[offset :: self.world_size]
            yield from mine.tolist()
            position += len(mine) * self.world_size

    def _order(self, number: int) -> torch.Tensor:
        """Indices of one pass, those of all processes."""
        if not self.shuffle:
            return torch.arange(self.size)
        entropy = np.random.SeedSequence([self.seed, number])
        generator = torch.Generator()
        generator.manual_seed(int(entropy.generate_state(1)[0]))
        return torch.randperm(self.size, generator=generator)

    def __len__(self) -> int:
        """Number of samples in the data set."""
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Part of MMEngine's interface; endless trainings have no epochs."""
