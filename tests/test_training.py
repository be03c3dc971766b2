"""Training through the command line, as a user runs it."""
import os
import os.path as osp
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config

from ppcd_mmagic.export import build_student
from ppcd_mmagic.masks import named_masks
from ppcd_mmagic.registry import MODELS

DIGITS = 'configs/ppcd_digits_16_alpha06.py'
SMALL = [
    'model.generator.base_channels=4', 'train_cfg.max_iters=12',
    'train_cfg.val_interval=100', 'val_evaluator.metrics=[]',
    'train_dataloader.batch_size=8', 'param_scheduler.begin=6',
    'param_scheduler.end=12', 'default_hooks.checkpoint.interval=4',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'custom_hooks.1.interval=5', 'custom_hooks.2.begin=1',
    'custom_hooks.2.end=10'
]
# one thread: the same sums in the same order
ENV = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')


def train(work_dir, *arguments, config=DIGITS, options=SMALL, launch=()):
    command = [
        sys.executable, *launch, 'tools/train.py', config, '--work-dir',
        str(work_dir), *arguments, '--cfg-options', *options
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)


def finish(process):
    out, _ = process.communicate(timeout=600)
    return process.returncode, out


def load(work_dir, name='iter_12.pth'):
    return torch.load(osp.join(work_dir, name), weights_only=False)


def assert_same_run(a, b):
    assert a['state_dict'].keys() == b['state_dict'].keys()
    for key, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][key]), key
    for name in ('generator', 'discriminator'):
        first, second = (x['optimizer'][name]['state'] for x in (a, b))
        for index in first:
            assert torch.equal(first[index]['exp_avg_sq'],
                               second[index]['exp_avg_sq'])


@pytest.mark.slow
def test_the_trained_student_has_what_an_untrained_one_lacks(trained_student):
    """Tests that stand on it would pass for nothing if it did not."""
    student = build_student(
        Config.fromfile(trained_student.config), trained_student.checkpoint)
    masks = [(mask.channels, mask.num_pruned)
             for _, mask in named_masks(student)]
    assert masks == [(16, 9)] * 3 + [(8, 4)] * 3
    variances = torch.cat([
        value for key, value in student.named_buffers()
        if key.endswith('running_var')
    ])
    assert (variances < 1e-9).any() and (variances > 1e-2).any()
    noise = torch.from_numpy(np.random.RandomState(0).randn(1, 24)).float()
    with torch.no_grad():
        images = student(noise.expand(10, -1), label=torch.arange(10))
    assert min(torch.pdist(images.flatten(1))) > 0.1


@pytest.mark.slow
def test_killed_and_resumed_run_equals_the_uninterrupted_one(tmp_path):
    whole = train(tmp_path / 'whole')
    code, out = finish(whole)
    assert code == 0, out

    killed = train(tmp_path / 'killed')
    checkpoint = tmp_path / 'killed' / 'iter_8.pth'
    last = tmp_path / 'killed' / 'last_checkpoint'
    until = time.time() + 300
    while killed.poll() is None and time.time() < until and not (
            checkpoint.exists() and 'iter_8' in last.read_text()):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert killed.returncode == -signal.SIGKILL, 'it ended before the kill'
    assert not (tmp_path / 'killed' / 'iter_12.pth').exists()

    code, out = finish(train(tmp_path / 'killed', '--resume'))
    assert code == 0, out
    assert 'resumed' in out
    a, b = load(tmp_path / 'whole'), load(tmp_path / 'killed')
    assert_same_run(a, b)
    pruned = [k for k in a['state_dict'] if k.endswith('mask.pruned')]
    assert len(pruned) == 12, 'six masks, and those of the EMA copy'
    for key in pruned:
        mask = a['state_dict'][key]
        assert int(mask.sum()) == int(0.6 * len(mask)), key
    assert not any('teacher' in key for key in a['state_dict'])


@pytest.mark.slow
def test_resume_without_anything_to_resume_starts_from_load_from(tmp_path):
    code, out = finish(train(tmp_path / 'first'))
    assert code == 0, out
    options = SMALL + [
        f'load_from={tmp_path}/first/iter_12.pth', 'train_cfg.max_iters=4',
        'optim_wrapper.generator.optimizer.lr=0', 'custom_hooks.2.end=4'
    ]
    code, out = finish(train(tmp_path / 'second', '--resume', options=options))
    assert code == 0, out
    first, second = load(tmp_path / 'first'), load(tmp_path / 'second',
                                                   'iter_4.pth')
    name = 'generator.conv_blocks.0.conv_1.conv.weight_orig'
    assert torch.equal(first['state_dict'][name], second['state_dict'][name])


@pytest.mark.slow
def test_shrinking_run_is_resumed_and_exported(tmp_path):
    config = tmp_path / 'shrinking.py'
    config.write_text(f"_base_ = '{ROOT}/{DIGITS}'\n"
                      'custom_hooks = _base_.custom_hooks + [\n'
                      "    dict(type='ShrinkHook', interval=3)]\n")
    code, out = finish(train(tmp_path / 'whole', config=str(config)))
    assert code == 0, out
    code, out = finish(
        train(tmp_path / 'resumed', '--resume',
              str(tmp_path / 'whole' / 'iter_8.pth'), config=str(config)))
    assert code == 0, out
    a, b = load(tmp_path / 'whole'), load(tmp_path / 'resumed')
    assert_same_run(a, b)
    name = 'generator.conv_blocks.0.conv_1.conv.weight_orig'
    widths = [
        len(load(tmp_path / 'whole', f'iter_{i}.pth')['state_dict'][name])
        for i in (4, 8, 12)
    ]
    # of 8 channels floor(8 * 0.6 * (1 - (7/9)^3)) = 2 are pruned at iteration
    # 3, when the hook runs first, and the 4 that alpha allows at iteration 6
    assert widths == [6, 4, 4]
    export = subprocess.run([
        sys.executable, 'tools/export.py',
        str(config),
        str(tmp_path / 'resumed' / 'iter_12.pth'), '--cfg-options',
        'model.generator.base_channels=4'
    ], cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert export.returncode == 0, export.stderr
    assert 'x smaller' in export.stdout


@pytest.mark.slow
def test_two_ranks_train_and_prune(tmp_path):
    options = SMALL + [
        'custom_hooks.2.schedule=threshold',
        'custom_hooks.2.threshold=0.999',
    ]
    launch = ('-m', 'torch.distributed.run', '--nproc_per_node', '2',
              '--master_port', '29511')
    code, out = finish(
        train(
            tmp_path, '--launcher', 'pytorch', options=options, launch=launch))
    assert code == 0, out
    state = load(tmp_path)['state_dict']
    pruned = [v for k, v in state.items() if k.endswith('mask.pruned')]
    assert pruned and any(mask.any() for mask in pruned)


@pytest.fixture
def folder(tmp_path):
    for label in range(4):
        path = tmp_path / 'imagenet' / 'train' / f'n0{label}'
        path.mkdir(parents=True)
        for index in range(3):
            picture = np.random.randint(0, 255, (150, 180, 3), np.uint8)
            cv2.imwrite(str(path / f'{index}.JPEG'), picture)
    return tmp_path / 'imagenet'


NARROW = [
    'model.num_classes=4', 'model.generator.num_classes=4',
    'model.discriminator.num_classes=4', 'model.generator.base_channels=4',
    'model.discriminator.base_channels=8',
    'model.teacher.generator.num_classes=4',
    'model.teacher.generator.base_channels=4', 'val_evaluator.metrics=[]',
    'train_dataloader.batch_size=2', 'train_dataloader.num_workers=1',
    'val_dataloader.num_workers=1', 'default_hooks.checkpoint.save_best=None',
    'default_hooks.checkpoint.rule=None', 'train_cfg.max_iters=2',
    'custom_hooks.1.interval=1', 'custom_hooks.1.n_samples=2',
    'custom_hooks.2.begin=0', 'custom_hooks.2.end=2',
    'custom_hooks.2.interval=1', 'default_hooks.logger.interval=1'
]


@pytest.mark.slow
def test_imagenet_config_trains_on_a_folder_under_a_checkpoint(
        folder, tmp_path):
    """Full depth and resolution; only the width is that of a test."""
    teacher = MODELS.build(
        dict(
            type='BigGANGenerator',
            output_scale=128,
            noise_size=120,
            num_classes=4,
            base_channels=4,
            auto_sync_bn=False,
            init_cfg=dict(type='N02')))
    state = {f'generator_ema.{k}': v for k, v in teacher.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'teacher.pth')
    options = NARROW + [
        f'train_dataloader.dataset.data_root={folder}',
        f'val_dataloader.dataset.data_root={folder}',
        f'model.teacher.checkpoint={tmp_path}/teacher.pth'
    ]
    code, out = finish(
        train(
            tmp_path / 'run',
            config='configs/ppcd_biggan_128_alpha06.py',
            options=options))
    assert code == 0, out
    for name in ('loss_cd', 'loss_pp', 'loss_adv', 'sparsity'):
        assert name in out
    pictures = list((tmp_path / 'run').rglob('*.png'))
    assert pictures and cv2.imread(str(pictures[0])).shape[0] >= 128


def test_missing_files_are_one_line_each(tmp_path):
    code, out = finish(
        train(
            tmp_path,
            config='configs/ppcd_biggan_128_alpha06.py',
            options=[
                f'train_dataloader.dataset.data_root={tmp_path}/none',
                'model.teacher.checkpoint=none.pth',
                'val_evaluator.metrics=[]'
            ]))
    lines = [line for line in out.splitlines() if line.strip()]
    assert code == 2
    assert [line.split(':')[0] for line in lines] == ['error', 'error']
    assert 'teacher checkpoint' in lines[0] and 'training data' in lines[1]


def test_bad_alpha_is_one_line(tmp_path):
    code, out = finish(
        train(tmp_path, options=SMALL + ['custom_hooks.2.alpha=1.5']))
    assert code == 2
    errors = [line for line in out.splitlines() if 'error:' in line]
    assert len(errors) == 1 and 'alpha=1.5 must be in [0, 1)' in errors[0]
    assert 'Traceback' not in out
