"""Trainings of the digits, small enough to run inside a test."""

import json
import os.path as osp
from glob import glob
from itertools import count

import torch
from conftest import ROOT, config_path
from mmengine.config import Config

from ppcd_mmagic.engine import SafeRunner

OPTIONS = {
    'model.generator.base_channels': 4,
    'model.teacher.checkpoint': f'{ROOT}/checkpoints/biggan_digits_16.pth',
    'model.discriminator.discriminator.base_channels': 4,
    'train_cfg.max_iters': 6,
    'train_cfg.val_interval': 100,
    'train_dataloader.batch_size': 4,
    'val_evaluator.metrics': [],
    'default_hooks.checkpoint.interval': 2,
    'param_scheduler.begin': 3,
    'param_scheduler.end': 6,
    'default_hooks.visualization.interval': 100,
    'default_hooks.mask_binarization.begin': 1,
    'default_hooks.mask_binarization.end': 5,
    'vis_backends': [],
    'visualizer.vis_backends': [],
    'log_level': 'ERROR',
}
COMMAND_LINE = [
    f'{key}={value}'
    for key, value in OPTIONS.items()
    if 'vis' not in key and 'level' not in key
]
_serial = count()


def tiny_config(work_dir, name='ppcd_digits_16_alpha06', **options) -> Config:
    """Six iterations of a student with four base channels.

    Args:
        work_dir: Where it is trained.
        name (str): Config of the digits.
        **options: Settings with ``__`` in place of dots.
    """
    config = Config.fromfile(config_path(name))
    config.merge_from_dict(OPTIONS)
    config.merge_from_dict(
        {key.replace('__', '.'): value for key, value in options.items()}
    )
    config.work_dir = str(work_dir)
    # MMEngine keeps logs and histories apart by this name
    config.experiment_name = f'test_{next(_serial)}'
    return config


def tiny_runner(work_dir, **options) -> SafeRunner:
    """The runner of a :func:`tiny_config`."""
    return SafeRunner.from_cfg(tiny_config(work_dir, **options))


def hooked_runner(work_dir, *hooks, iterations=8, **options) -> SafeRunner:
    """A runner with a checkpoint and a line of the log after each iteration
    and no hooks but those of MMEngine, the seeds and the given ones.

    Its student has four masks, of 10, 10, 5 and 5 channels.
    """
    config = tiny_config(
        work_dir,
        **{
            'model.generator.base_channels': 5,
            'model.generator.residual_masks': 'shared',
            'train_cfg.max_iters': iterations,
            'param_scheduler.end': iterations,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'default_hooks.logger.interval': 1,
            'vis_backends': [dict(type='VisBackend')],
            'visualizer.vis_backends': [dict(type='VisBackend')],
            **options,
        },
    )
    for name in ('iter_seed', 'visualization', 'mask_binarization'):
        del config.default_hooks[name]
    # named last: nothing but its priority brings it before the others
    config.custom_hooks = [*hooks, dict(type='IterSeedHook')]
    return SafeRunner.from_cfg(config)


def checkpoint_of(work_dir, iteration: int) -> dict:
    return torch.load(
        osp.join(work_dir, f'iter_{iteration}.pth'), weights_only=False
    )


def logged_scalars(work_dir) -> list:
    """What a run has written for its curves, in the order written."""
    (path,) = glob(osp.join(work_dir, '*', 'vis_data', 'scalars.json'))
    with open(path) as file:
        return [json.loads(line) for line in file]
