from typing import List, Optional

import cv2
import numpy as np
from mmagic.datasets import BasicConditionalDataset

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import DATASETS


@DATASETS.register_module()
class DigitsDataset(BasicConditionalDataset):
    """Handwritten digits that ship with scikit-learn (no download).

    1,797 real images of 10 classes (Alpaydin and Kaynak, UCI, 1998), 8 x 8
    pixels, enlarged here; every fifth is the test split of classifiers.

    Args:
        split (str): 'all', 'train' (4 of 5) or 'test' (1 of 5).
            Defaults to 'all'.
        size (int): Side of the images in pixels. Defaults to 16.
        **kwargs: Those of ``BaseDataset``, such as ``pipeline``.

    Example:
        >>> digits = DATASETS.build(dict(type='DigitsDataset', split='test'))
        >>> len(digits), digits[0]['gt_label']
        (360, 0)
    """

    METAINFO = dict(classes=tuple(str(digit) for digit in range(10)))

    def __init__(
        self,
        split: str = 'all',
        size: int = 16,
        pipeline: Optional[list] = None,
        **kwargs,
    ) -> None:
        if split not in ('all', 'train', 'test'):
            raise PPCDError(
                f'split="{split}" must be "all", "train" or "test".'
            )
        if size < 1:
            raise PPCDError(f'size={size} must be at least 1.')
        self.split = split
        self.size = size
        # the base class wants a place to look for files; there are none
        super().__init__(
            data_prefix='digits', pipeline=pipeline or [], **kwargs
        )

    def load_data_list(self) -> List[dict]:
        """Images as uint8 (size, size, 3) under 'gt', labels as int."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        chosen = {
            'all': lambda index: True,
            'train': lambda index: index % 5 != 0,
            'test': lambda index: index % 5 == 0,
        }[self.split]
        return [
            dict(
                gt=self._enlarge(image),
                gt_label=int(label),
                gt_channel_order='BGR',
            )
            for index, (image, label) in enumerate(
                zip(digits.images, digits.target)
            )
            if chosen(index)
        ]

    def _enlarge(self, image: np.ndarray) -> np.ndarray:
        gray = (image * (255 / 16)).astype(np.float32)
        enlarged = cv2.resize(
            gray, (self.size, self.size), interpolation=cv2.INTER_LINEAR
        )
        return np.repeat(
            enlarged.round().astype(np.uint8)[..., None], 3, axis=2
        )
