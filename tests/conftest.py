"""Small generators that have everything the large ones have."""

import copy
import os
import os.path as osp
import random
import subprocess
import sys
import zlib
from glob import glob
from typing import NamedTuple

import numpy as np
import pytest
import torch
from filelock import FileLock

import ppcd_mmagic  # noqa: F401, makes MMagic importable everywhere

# isort: split
from mmagic.models.editors.biggan import BigGANGenerator
from mmagic.models.editors.sagan import SNGANGenerator
from mmengine.registry import DefaultScope
from mmengine.utils import digit_version

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.registry import MODELS

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
os.environ['PYTHONPATH'] = ROOT  # the tools run by tests find the package
NOISE, CLASSES = 12, 5

SAGAN = dict(
    type='PPResSAGANGenerator',
    output_scale=16,
    noise_size=NOISE,
    num_classes=CLASSES,
    base_channels=8,
    channels_cfg=[2, 2],
    attention_after_nth_block=1,
    with_spectral_norm=True,
    auto_sync_bn=False,
)
BIGGAN = dict(
    type='PPResBigGANGenerator',
    output_scale=16,
    noise_size=NOISE,
    num_classes=CLASSES,
    shared_dim=6,
    auto_sync_bn=False,
    arch_cfg=dict(
        in_channels=[16, 16],
        out_channels=[16, 8],
        upsample=[True, True],
        resolution=[8, 16],
        attention=[True, False],
    ),
)
STUDENTS = dict(
    sagan=SAGAN,
    sagan_ajbrock=dict(SAGAN, sn_style='ajbrock'),
    sagan_plain=dict(SAGAN, with_spectral_norm=False),
    biggan=BIGGAN,
    biggan_torch=dict(BIGGAN, sn_style='torch'),
)
TEACHER = {**{k: v for k, v in BIGGAN.items()}, 'type': 'BigGANGenerator'}


def config_path(name: str) -> str:
    """Of a config of one of the methods, by its name."""
    (path,) = glob(f'{ROOT}/configs/[!_f]*/{name}.py')  # nor foreign ones
    return path


def build_generator(config: dict, **changes) -> torch.nn.Module:
    """A generator as after some training: no value is at its default."""
    torch.manual_seed(0)
    generator = MODELS.build({**copy.deepcopy(config), **changes})
    assert isinstance(generator, (SNGANGenerator, BigGANGenerator))
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith('gamma') or name.endswith('.bias'):
                parameter.normal_()
            elif '.mask.' in name:
                parameter.uniform_()
        # spectral norm's first guess may be near zero and blow weights up
        for _ in range(5):
            generator(torch.randn(4, NOISE), label=torch.arange(4))
        for name, buffer in generator.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_()
            elif name.endswith('running_var'):
                buffer.uniform_(0.5, 2)
    return generator.eval()


def prune(generator: torch.nn.Module, alpha: float) -> None:
    for _, mask in named_masks(generator):
        mask.prune(int(alpha * mask.channels))


def every_class(times: int = 1):
    """Noise and labels, each class at least once."""
    torch.manual_seed(1)
    labels = torch.arange(CLASSES).repeat(times)
    return torch.randn(len(labels), NOISE), labels


class Trained(NamedTuple):
    """A student after a training. ``config`` and ``checkpoint`` are paths."""

    config: str
    checkpoint: str
    iterations: int


def train_student(work_dir, config: str, iterations: int) -> None:
    training = subprocess.run(
        [
            sys.executable,
            'tools/train.py',
            config_path(config),
            '--work-dir',
            str(work_dir),
            '--cfg-options',
            f'model.teacher.checkpoint={ROOT}/checkpoints/biggan_digits_16.pth',
            'model.generator.base_channels=8',
            'model.discriminator.discriminator.base_channels=16',
            'model.ema_config.momentum=0.03',
            'optim_wrapper.generator.optimizer.lr=2e-3',
            'optim_wrapper.discriminator.optimizer.lr=1e-3',
            'train_dataloader.batch_size=24',
            'val_evaluator.metrics=[]',
            f'train_cfg.max_iters={iterations}',
            f'train_cfg.val_interval={10 * iterations}',
            f'param_scheduler.begin={iterations // 2}',
            f'param_scheduler.end={iterations}',
            f'default_hooks.checkpoint.interval={iterations}',
            f'default_hooks.visualization.interval={10 * iterations}',
            'default_hooks.mask_binarization.begin=40',
            'default_hooks.mask_binarization.end=160',
        ],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'),
        capture_output=True,
        text=True,
    )
    assert training.returncode == 0, training.stderr


# single cases that older versions of torch refuse or cannot compute
CASES_THAT_NEED_TORCH = {
    'slice_of_the_batch': '2.4',  # networks that index their batch
    'length': '2.4',
    'DDPM': '2.4',
    'half_precision': '2.4',  # on the CPU
    'moved': '2.6',  # over the meta device, which kept no layout
    'no classes': '2.6',  # formats
    'one colour': '2.6',
    'export.fold_norms': '2.6',
    'export.cost_of': '2.6',
    'export.program_of': '2.6',
}


def pytest_runtest_setup(item):
    wanted = [mark.args[0] for mark in item.iter_markers('needs_torch')]
    case = item.name.partition('[')[2].rstrip(']')
    for name in (case, *case.split('-')):
        wanted += filter(None, [CASES_THAT_NEED_TORCH.get(name)])
    for version in wanted:
        if digit_version(torch.__version__) < digit_version(version):
            pytest.skip(f'needs torch {version}')


@pytest.fixture(scope='session')
def trained_student(tmp_path_factory):
    """The digits' student, narrow, after 240 iterations under its teacher
    (half a minute).

    Where an untrained network cannot fail this one can: 60 % of each mask are
    pruned (masks of 8 and 16 channels have 4 and 9 zeros), the running
    variance of a norm behind them has gone to zero, the EMA copy differs from
    the generator, and every class has an image of its own.
    """
    config, iterations = 'ppcd_digits_16_alpha06', 240
    # one training for all processes of pytest-xdist, whose folders for
    # temporary files lie side by side
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        shared = shared.parent
    work_dir = shared / 'trained_student'
    checkpoint = work_dir / f'iter_{iterations}.pth'
    with FileLock(shared / 'trained_student.lock'):
        if not checkpoint.exists():
            train_student(work_dir, config, iterations)
    return Trained(str(work_dir / f'{config}.py'), str(checkpoint), iterations)


@pytest.fixture(autouse=True)
def default_scope():
    """As a runner sets it from a config's default_scope."""
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        yield


@pytest.fixture(autouse=True)
def random_numbers(request):
    """The same for a test whatever ran before it, in whichever process."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture
def repo(monkeypatch):
    """Run in the root of the repository."""
    monkeypatch.chdir(ROOT)
    return ROOT
