import logging
from typing import Dict, Sequence

from mmagic.datasets import BasicConditionalDataset
from mmengine.logging import print_log

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import DATASETS
from .pictures import ENDINGS, fault_of, undecodable


@DATASETS.register_module()
class PictureFolder(BasicConditionalDataset):
    """MMagic's data set of one folder a class, which lives with a few pictures
    that cannot be read.

    Another of the same class, always the same one, takes the place of such a
    picture, and the log names it once for each process that loads data.

    Args:
        extensions (Sequence[str]): Endings of pictures. Defaults to
            ``ppcd_mmagic.datasets.ENDINGS``.
        tolerated (float): Fraction of the pictures that may be unreadable, in
            [0, 1]. Defaults to 0.01.
        **kwargs: Those of MMagic's ``BasicConditionalDataset``.

    Raises:
        PPCDError: While training, if more are, or all of a class.

    Example:
        >>> train_dataloader = dict(
        ...     dataset=dict(
        ...         type='PictureFolder', data_root='~/pictures', tolerated=0.0
        ...     )
        ... )
    """

    def __init__(
        self,
        extensions: Sequence[str] = ENDINGS,
        tolerated: float = 0.01,
        **kwargs,
    ) -> None:
        if not 0 <= tolerated <= 1:
            raise PPCDError(f'tolerated={tolerated} must be in [0, 1].')
        self.tolerated = tolerated
        self._faults: Dict[int, str] = {}
        super().__init__(extensions=extensions, **kwargs)

    def prepare_data(self, idx: int) -> dict:
        """A sample of the pipeline, of this picture or of its substitute."""
        path = self.get_data_info(idx)['gt_path']
        fault = self._faults.get(idx) or fault_of(path)
        if not fault:
            try:
                return super().prepare_data(idx)
            except Exception:
                fault = undecodable(path)
                if not fault:
                    raise  # not the picture's
        self._note(idx, path, fault)
        return self.prepare_data(self._substitute(idx))

    def _note(self, idx: int, path: str, fault: str) -> None:
        if idx in self._faults:
            return
        self._faults[idx] = fault
        count, total = len(self._faults), len(self)
        if count > self.tolerated * total:
            raise PPCDError(
                f'{count} of {total} pictures cannot be read, more than '
                f'{100 * self.tolerated:g} %; the last is {path} ({fault}). '
                'Mend or delete them, or allow more with '
                'train_dataloader.dataset.tolerated.'
            )
        print_log(
            f'{path} cannot be read ({fault}): another of its class takes its '
            'place',
            'current',
            logging.WARNING,
        )

    def _substitute(self, idx: int) -> int:
        label = self.get_data_info(idx)['gt_label']
        for step in range(1, len(self)):
            other = (idx + step) % len(self)
            if (
                other not in self._faults
                and self.get_data_info(other)['gt_label'] == label
            ):
                return other
        raise PPCDError(f'No picture of class {label} can be read.')
