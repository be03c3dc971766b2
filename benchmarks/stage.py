"""A small run of everything, which the faults are tried on."""

import itertools
import os
import os.path as osp
import shutil
import signal
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image
from trials import ROOT, call  # finds the tests

# isort: split
from runs import OPTIONS  # their small training

from ppcd_mmagic.models import PPCDGAN

ITERATIONS = OPTIONS['train_cfg.max_iters']
LENGTH = 12  # of the training that accidents happen to


class Stage:
    """Paths of a training, its export, a judge and pictures.

    Args:
        folder (str): Where they are, or are made.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.config = osp.join(folder, 'config.py')
        self.judged = osp.join(folder, 'judged.py')
        self.run = osp.join(folder, 'run')
        self.checkpoint = osp.join(self.run, f'iter_{ITERATIONS}.pth')
        self.long = osp.join(folder, 'long.py')
        self.whole, self.half = (
            osp.join(folder, name) for name in ('whole', 'half')
        )
        self.export = osp.join(folder, 'export')
        self.other_export = osp.join(folder, 'other_export')
        self.judge_config = f'{ROOT}/configs/classifier/classifier_digits_16.py'
        self.judge = osp.join(folder, 'judge', 'iter_2.pth')
        self.pictures = osp.join(folder, 'pictures')
        self.teacher = f'{ROOT}/checkpoints/biggan_digits_16.pth'
        self.done = osp.join(folder, 'done')

    def make(self) -> None:
        if osp.exists(self.done):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        paint(self.pictures)
        self._write_configs()
        self._call(
            'train',
            self.judge_config,
            '--work-dir',
            osp.dirname(self.judge),
            '--cfg-options',
            'train_cfg.max_iters=2',
            'default_hooks.checkpoint.interval=2',
        )
        self._call('train', self.judged, '--work-dir', self.run)
        # the second one is of a model with other widths
        for step, path, formats in (
            (ITERATIONS, self.export, ('mmagic', 'safetensors')),
            (2, self.other_export, ('mmagic',)),
        ):
            self._call(
                'export',
                self.judged,
                osp.join(self.run, f'iter_{step}.pth'),
                '--out-dir',
                path,
                '--format',
                *formats,
            )
        self._call('train', self.long, '--work-dir', self.whole)
        half = LENGTH // 2
        self._call(
            'train',
            self.long,
            '--work-dir',
            self.half,
            inside=lambda: stop_after(half),
        )
        open(self.done, 'w').close()

    def _write_configs(self) -> None:
        config = Config.fromfile(
            f'{ROOT}/configs/ppcd_gan/ppcd_digits_16_alpha06.py'
        )
        metric = config.val_evaluator.metrics[0]
        config.merge_from_dict(OPTIONS)
        config.dump(self.config)
        long = Config.fromfile(self.config)
        long.merge_from_dict(
            {
                'train_cfg.max_iters': LENGTH,
                'param_scheduler.begin': LENGTH // 2,
                'param_scheduler.end': LENGTH,
                'default_hooks.mask_binarization.end': LENGTH - 2,
                'default_hooks.checkpoint.interval': 1,
                'default_hooks.checkpoint.max_keep_ckpts': 3,
            }
        )
        long.dump(self.long)
        metric.update(checkpoint=self.judge, fake_nums=20)
        config.val_evaluator.metrics = [metric]
        config.test_evaluator = config.val_evaluator
        config.dump(self.judged)

    def _call(self, tool: str, *arguments: str, inside=None) -> None:
        ended = call(tool, arguments, self.folder, inside)
        if ended.code not in (0, 128 + signal.SIGTERM):
            raise RuntimeError(f'{tool} {arguments}: {ended.errors}')


def stop_after(step: int) -> None:
    """Inside of a training's process: it is asked to end there."""
    whole, count = PPCDGAN.train_step, itertools.count(1)

    def train_step(self, *args, **kwargs):
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *args, **kwargs)

    PPCDGAN.train_step = train_step


def paint(
    folder: str,
    classes: tuple = ('cat', 'dog'),
    number: int = 4,
    ending: str = 'png',
    mode: str = 'RGB',
    **kwargs: Any,
) -> None:
    """Pictures of noise, a folder for each class."""
    chance = np.random.RandomState(0)
    for name in classes:
        os.makedirs(osp.join(folder, name), exist_ok=True)
        for index in range(number):
            picture = Image.fromarray(
                chance.randint(0, 255, (70, 80, 3), np.uint8)
            )
            picture.convert(mode).save(
                osp.join(folder, name, f'{index}.{ending}'), **kwargs
            )
