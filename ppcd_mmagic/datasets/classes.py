"""What the classes of a data set are called."""

import os.path as osp
from typing import List, Optional

import mmengine
from mmagic.datasets import BasicConditionalDataset
from mmagic.datasets.basic_conditional_dataset import find_folders
from mmengine.config import Config
from mmengine.fileio import get_file_backend

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import DATASETS


def class_names(config: Config, source: Optional[str] = None) -> List[str]:
    """Names of the classes, by index.

    Args:
        config (Config): A config with a data set: its class names, or the
            sorted folders of its pictures where those are at hand.
        source (str, optional): Instead of it a text file with a name in each
            line, or 'imagenet' for the 1,000 names that torchvision knows (in
            the order of the sorted WordNet ids).

    Raises:
        PPCDError: If the names are not to be found.

    Example:
        >>> class_names(Config.fromfile('student.py'))[:3]
        ['0', '1', '2']
        >>> class_names(Config(), 'imagenet')[207]
        'golden retriever'
    """
    if source == 'imagenet':
        from torchvision.models import ResNet50_Weights

        return list(ResNet50_Weights.DEFAULT.meta['categories'])
    if source is not None:
        if not osp.isfile(source):
            raise PPCDError(
                f'There is no file "{source}" with class names; '
                'give one, a name in each line, or "imagenet".'
            )
        return mmengine.list_from_file(source)
    for key in ('train_dataloader', 'test_dataloader'):
        names = _names_of((config.get(key) or {}).get('dataset'))
        if names:
            return names
    raise PPCDError(
        'The names of the classes are not known: this config has no data set '
        'at hand that tells. Name a file with them, a name in each line, or '
        'give the indices.'
    )


def _names_of(dataset: Optional[dict]) -> Optional[List[str]]:
    if not dataset:
        return None
    kind = DATASETS.get(dataset['type'])
    if kind is None or not issubclass(kind, BasicConditionalDataset):
        return None
    built = DATASETS.build(dict(dataset, pipeline=[], lazy_init=True))
    names = built.CLASSES
    if names is None and osp.isdir(built.img_prefix):
        names, _ = find_folders(
            built.img_prefix, get_file_backend(uri=built.img_prefix)
        )
    return list(names) if names else None
