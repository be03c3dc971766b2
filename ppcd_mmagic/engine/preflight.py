"""What can be known to be wrong before anything is built."""
import os.path as osp
from typing import Iterator, List, Optional

import torch
from mmengine.config import Config
from torchvision.datasets.folder import (IMG_EXTENSIONS, find_classes,
                                         make_dataset)

from ppcd_mmagic.errors import PPCDError


def find_problems(config: Config) -> List[str]:
    """Look for files a training will need.

    Args:
        config (Config): A training config.

    Returns:
        List[str]: One line for each thing missing or misplaced: what it is,
        where it was looked for, and how to get it.
    """
    model = config.model
    return [
        *_start_problems(config.get('load_from')),
        *_teacher_problems(model.get('teacher')),
        *_data_problems(config.train_dataloader.dataset,
                        model.get('num_classes')),
        *_metric_problems((config.get('val_evaluator') or {}).get(
            'metrics', []))
    ]


def _start_problems(path: Optional[str]) -> Iterator[str]:
    if path and not osp.isfile(path):
        yield (f'checkpoint to start from not found: looked for '
               f'{osp.abspath(path)}; train it first, or name yours with '
               '--cfg-options load_from=PATH')


def _teacher_problems(teacher: Optional[dict]) -> Iterator[str]:
    path = teacher and teacher.get('checkpoint')
    if path and not osp.isfile(path):
        yield (f'teacher checkpoint not found: looked for {osp.abspath(path)}; '
               'put a BigGAN checkpoint of MMagic or BigGAN-PyTorch there, or '
               'name yours with --cfg-options model.teacher.checkpoint=PATH')


def _data_problems(dataset: dict, num_classes: int) -> Iterator[str]:
    root = dataset.get('data_root')
    if root is None:
        return  # made of no files, like the digits
    prefix = dataset.get('data_prefix', '')
    if isinstance(prefix, dict):
        prefix = next(iter(prefix.values()), '')
    folder = osp.join(root, prefix)
    how = ('put one folder of pictures per class there, or name yours with '
           '--cfg-options train_dataloader.dataset.data_root=PATH')
    if not osp.isdir(folder):
        yield (f'training data not found: looked for the folder '
               f'{osp.abspath(folder)}; {how}')
        return
    if dataset.get('ann_file'):
        ann_file = osp.join(root, dataset['ann_file'])
        if not osp.isfile(ann_file):
            yield (f'list of training images not found: looked for '
                   f'{osp.abspath(ann_file)}; set ann_file=\'\' to take all '
                   f'pictures of {osp.abspath(folder)}')
        return
    try:
        classes, index = find_classes(folder)
        make_dataset(folder, index, IMG_EXTENSIONS)
    except FileNotFoundError as error:
        reason = ' '.join(str(error).split())
        yield (f'training data has the wrong layout: {reason[:200]}; {how}')
        return
    if num_classes and len(classes) != num_classes:
        yield (f'training data has {len(classes)} classes (folders in '
               f'{osp.abspath(folder)}), but the model has {num_classes}: set '
               'num_classes alike in the config, or mend the folder')


def _metric_problems(metrics: list) -> Iterator[str]:
    reported = [None]  # MMagic takes None for a path of its own
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        kind = metric['type'].split('.')[-1]
        judge = metric.get('checkpoint')
        if judge and not osp.isfile(judge):
            yield (f'classifier of {kind} not found: looked for '
                   f'{osp.abspath(judge)}; train it first with its own config '
                   '(configs/classifier_*.py)')
        inception = metric.get('inception_path')
        if inception not in reported and not osp.isfile(inception):
            reported.append(inception)
            yield (f'Inception weights of {kind} not found: looked for '
                   f'{osp.abspath(inception)}; download '
                   'inception-2015-12-05.pt of StyleGAN2-ADA there, or train '
                   'without FID and IS: --cfg-options val_evaluator.metrics=[]')


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
            wrapper for wrapper in config.optim_wrapper.values()
            if isinstance(wrapper, dict)
        ]
    for wrapper in wrappers:
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper['loss_scale'] = 'dynamic'
