"""What can be known to be wrong before anything is built."""

import inspect
import logging
import os
import os.path as osp
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmagic.datasets import BasicConditionalDataset
from mmengine.config import Config
from mmengine.logging import print_log

from ppcd_mmagic.datasets import ENDINGS, faults_in, pictures_in
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import metrics_of
from ppcd_mmagic.files import local_file
from ppcd_mmagic.registry import DATASETS
from .settings import hooks_of, listed


def find_problems(
    config: Config, loops: Sequence[str] = ('train', 'val')
) -> List[str]:
    """Look for files that will be needed.

    Args:
        config (Config): Of a training, or of what was trained.
        loops (Sequence[str]): Which of 'train', 'val' and 'test' are to be
            run. Defaults to the first two.

    Returns:
        List[str]: One line for each thing missing or misplaced: what it is,
        where it was looked for, and how to get it.
    """
    problems = [*_start_problems(config.get('load_from'))]
    if 'train' in loops:
        problems += _teacher_problems(config.model.get('teacher'), 'model')
        problems += _hook_problems(config)
    problems += _data_problems(config, loops)
    for loop in loops:
        problems += _metric_problems(config, f'{loop}_evaluator')
    return list(dict.fromkeys(problems))  # one file may be asked for twice


def _start_problems(path: Optional[str]) -> Iterator[str]:
    if path and not osp.isfile(local_file(path)):
        yield (
            f'checkpoint to start from not found: looked for '
            f'{osp.abspath(path)}; train it first, or name yours with '
            '--cfg-options load_from=PATH'
        )


def _teacher_problems(teacher: Optional[dict], owner: str) -> Iterator[str]:
    path = teacher and teacher.get('checkpoint')
    if path and not osp.isfile(local_file(path)):
        yield (
            f'teacher checkpoint not found: looked for {osp.abspath(path)}; '
            'put a BigGAN checkpoint of MMagic or BigGAN-PyTorch there, or '
            f'name yours with --cfg-options {owner}.teacher.checkpoint='
            'PATH'
        )


def _hook_problems(config: Config) -> Iterator[str]:
    for place, hook in hooks_of(config).items():
        yield from _teacher_problems(hook.get('teacher'), place)


_DATA = dict(train='training data', val='validation data', test='test data')


def _data_problems(config: Config, loops: Sequence[str]) -> Iterator[str]:
    num_classes = config.model.get('num_classes')
    found: Dict[str, Optional[List[str]]] = {}
    for loop in loops:
        loader, what = f'{loop}_dataloader', _DATA[loop]
        for folder, dataset in _folders_of(config.get(loader)):
            if folder in found:
                continue
            found[folder] = None
            by_class = _has_class_folders(dataset)
            there = 'one folder of pictures per class' if by_class else 'them'
            how = (
                f'put {there} there, or name yours with --cfg-options '
                f'{loader}.dataset.data_root=PATH'
            )
            problems = [*_layout_problems(folder, dataset, what, how)]
            if by_class and not problems and not dataset.get('ann_file'):
                classes = _classes_in(folder)
                problems = [
                    *_class_problems(folder, classes, num_classes, what)
                ]
                if not problems:
                    found[folder] = classes  # to be compared
                problems += _picture_problems(folder, dataset, what)
            yield from problems
    first, *others = [classes for classes in found.values() if classes] or [[]]
    for classes in others:
        if classes != first:
            only = sorted({*first} ^ {*classes})
            yield (
                f'{" and ".join(_DATA[loop] for loop in loops)} have '
                f'different classes ({", ".join(only[:5])} are not in all of '
                'them): a class must have the same number everywhere'
            )


def _folders_of(loaders: Any) -> Iterator[Tuple[str, dict]]:
    """Folders that data sets read, none for those made of no files."""
    for loader in listed(loaders):
        dataset = loader.get('dataset') or {}
        root, prefix = dataset.get('data_root'), dataset.get('data_prefix', '')
        prefixes = prefix.values() if isinstance(prefix, dict) else [prefix]
        if root is not None:
            yield from ((osp.join(root, each), dataset) for each in prefixes)


def _has_class_folders(dataset: dict) -> bool:
    """Whether it takes folders for classes; CIFAR-10 and the pictures of
    translation and super-resolution do not."""
    built = DATASETS.get(dataset.get('type', 'PictureFolder'))
    return (
        getattr(built, 'load_data_list', None)
        is BasicConditionalDataset.load_data_list
    )


def _endings_of(dataset: dict) -> Sequence[str]:
    """The list that the data set goes by."""
    if 'extensions' in dataset:
        return tuple(dataset['extensions'])
    built = DATASETS.get(dataset.get('type', 'PictureFolder'))
    known = inspect.signature(built).parameters.get('extensions')
    return ENDINGS if known is None else known.default


def _classes_in(folder: str) -> List[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _layout_problems(
    folder: str, dataset: dict, what: str, how: str
) -> Iterator[str]:
    where = osp.abspath(folder)
    if not osp.isdir(folder):
        yield f'{what} not found: looked for the folder {where}; {how}'
        return
    if dataset.get('ann_file'):
        ann_file = osp.join(dataset['data_root'], dataset['ann_file'])
        if not osp.isfile(ann_file):
            yield (
                f'list of training images not found: looked for '
                f"{osp.abspath(ann_file)}; set ann_file='' to take all "
                f'pictures of {where}'
            )
        return
    if not _has_class_folders(dataset):
        return
    classes = _classes_in(folder)
    if not classes:
        yield (
            f'{what} has the wrong layout: there is no folder in {where}; {how}'
        )
        return
    endings = _endings_of(dataset)
    inner = {name: _depth(osp.join(folder, name), endings) for name in classes}
    empty = [name for name, depth in inner.items() if depth is None]
    if empty:
        yield (
            f'{what} has the wrong layout: no picture in {where} for '
            f'{", ".join(empty[:5])}{", ..." if len(empty) > 5 else ""} '
            f'(pictures end in {", ".join(endings)}); {how}'
        )
    elif min(depth or 0 for depth in inner.values()) > 0:
        yield (
            f'{what} has the wrong layout: the folders in {where} hold '
            f'folders, no pictures; name one of them instead, such as '
            f'{osp.join(where, classes[0])}, or put the classes there'
        )


def _depth(folder: str, endings: Sequence[str]) -> Optional[int]:
    """How many folders further down the first pictures are."""
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        if any(name.lower().endswith(tuple(endings)) for name in names):
            way = osp.relpath(root, folder)
            return 0 if way == '.' else len(way.split(os.sep))
    return None


def _class_problems(
    folder: str, classes: List[str], num_classes: Optional[int], what: str
) -> Iterator[str]:
    if num_classes and len(classes) != num_classes:
        yield (
            f'{what} has {len(classes)} classes (folders in '
            f'{osp.abspath(folder)}), but the model has {num_classes}: set '
            'num_classes alike in the config (CLASSES for your own '
            'pictures), or mend the folder'
        )


def _picture_problems(folder: str, dataset: dict, what: str) -> Iterator[str]:
    files = pictures_in(folder, _endings_of(dataset))
    faults = faults_in(folder, files)
    named = [
        f'{osp.join(folder, name)} ({fault})'
        for name, fault in sorted(faults.items())
    ]
    tolerated = dataset.get('tolerated', 0.01)
    if len(faults) > tolerated * len(files):
        yield (
            f'{what}: {len(faults)} of {len(files)} pictures cannot be '
            f'read: {", ".join(named[:3])}'
            f'{", ..." if len(named) > 3 else ""}; mend or delete them'
        )
        return
    for line in named:
        print_log(f'{what}: {line} cannot be read', 'current', logging.WARNING)


def _metric_problems(config: Config, evaluator: str) -> Iterator[str]:
    reported = [None]  # MMagic takes None for a path of its own
    for metric in metrics_of(config.get(evaluator)):
        kind = metric['type'].split('.')[-1]
        judge = metric.get('checkpoint')
        if judge and not osp.isfile(local_file(judge)):
            yield (
                f'classifier of {kind} not found: looked for '
                f'{osp.abspath(judge)}; train it first with its own config '
                '(configs/classifier/classifier_*.py)'
            )
        inception = metric.get('inception_path')
        if inception not in reported and not osp.isfile(inception):
            reported.append(inception)
            yield (
                f'Inception weights of {kind} not found: looked for '
                f'{osp.abspath(inception)}; download '
                'inception-2015-12-05.pt of StyleGAN2-ADA there, or do '
                f'without FID and IS: --cfg-options {evaluator}.metrics=[]'
            )


def enable_amp(config: Config) -> None:
    """Turn every optimizer wrapper of a config into its mixed-precision one.

    Raises:
        PPCDError: If there is no GPU.
    """
    if not torch.cuda.is_available():
        raise PPCDError('--amp needs a GPU, and torch sees none here.')
    wrappers = [config.optim_wrapper]
    if 'constructor' in config.optim_wrapper:
        wrappers = [
            wrapper
            for wrapper in config.optim_wrapper.values()
            if isinstance(wrapper, dict)
        ]
    for wrapper in wrappers:
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper['loss_scale'] = 'dynamic'
