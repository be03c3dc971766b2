"""Trainings of the digits, small enough to run inside a test."""
from itertools import count

from mmengine.config import Config

from conftest import ROOT
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
    'custom_hooks.1.interval': 100,
    'custom_hooks.2.begin': 1,
    'custom_hooks.2.end': 5,
    'vis_backends': [],
    'visualizer.vis_backends': [],
    'log_level': 'ERROR',
}
COMMAND_LINE = [
    f'{key}={value}' for key, value in OPTIONS.items()
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
    config = Config.fromfile(f'{ROOT}/configs/{name}.py')
    config.merge_from_dict(OPTIONS)
    config.merge_from_dict(
        {key.replace('__', '.'): value
         for key, value in options.items()})
    config.work_dir = str(work_dir)
    # MMEngine keeps logs and histories apart by this name
    config.experiment_name = f'test_{next(_serial)}'
    return config


def tiny_runner(work_dir, **options) -> SafeRunner:
    """The runner of a :func:`tiny_config`."""
    return SafeRunner.from_cfg(tiny_config(work_dir, **options))
