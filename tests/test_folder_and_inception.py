"""Pictures that are not digits, and Inception weights from disk."""
import json
import os.path as osp
import subprocess
import sys

import cv2
import pytest
import torch
from conftest import ROOT
from test_training import ENV, finish, train


@pytest.fixture
def textures(tmp_path):
    """Real photographs that ship with scikit-image: brick, grass, gravel."""
    import skimage
    source = osp.join(osp.dirname(skimage.__file__), 'data')
    for name in ('brick', 'grass', 'gravel'):
        picture = cv2.imread(osp.join(source, f'{name}.png'))
        folder = tmp_path / 'textures' / name
        folder.mkdir(parents=True)
        for index in range(16):
            row, column = 128 * (index // 4), 128 * (index % 4)
            cv2.imwrite(
                str(folder / f'{index}.png'),
                picture[row:row + 128, column:column + 128])
    return tmp_path / 'textures'


@pytest.mark.slow
def test_own_pictures_from_classifier_to_pruned_student(
        textures, tmp_path, monkeypatch):
    """The three commands of the README, short and narrow."""
    monkeypatch.setitem(ENV, 'PICTURES', str(textures))
    monkeypatch.setitem(ENV, 'CLASSES', '3')
    common = [
        'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.persistent_workers=False',
        'train_dataloader.batch_size=8'
    ]

    def run(name, *options):
        code, out = finish(
            train(
                tmp_path / name,
                config=f'configs/{name}.py',
                options=common + list(options)))
        assert code == 0, out
        return out

    out = run('classifier_folder_64', 'train_cfg.max_iters=60',
              'train_cfg.val_interval=60', 'param_scheduler.T_max=60',
              'default_hooks.checkpoint.interval=60')
    judge = tmp_path / 'classifier_folder_64' / 'iter_60.pth'
    accuracy = float(out.split('classifier/accuracy: ')[-1].split()[0])
    assert accuracy > 0.6, 'brick, grass and gravel are easy to tell apart'
    short = [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1',
        'model.discriminator.discriminator.base_channels=4',
        f'val_evaluator.metrics.0.checkpoint={judge}',
        f'test_evaluator.metrics.0.checkpoint={judge}',
        'val_evaluator.metrics.0.fake_nums=12'
    ]
    run('biggan_folder_64', *short, 'model.generator.base_channels=4')
    teacher = tmp_path / 'biggan_folder_64' / 'iter_2.pth'
    out = run('ppcd_folder_64', *short, 'model.generator.base_channels=4',
              'model.teacher.generator.base_channels=4',
              f'model.teacher.checkpoint={teacher}', 'custom_hooks.2.begin=0',
              'custom_hooks.2.end=2', 'custom_hooks.2.interval=1')
    assert 'domain/frechet' in out and 'loss_cd' in out


class StandIn(torch.nn.Module):
    """Answers like the TorchScript Inception of StyleGAN2-ADA."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 8)

    def forward(self,
                image: torch.Tensor,
                return_features: bool = False,
                no_output_bias: bool = False):
        features = self.layer(image.float().mean([2, 3]) / 255)
        return features if return_features else torch.softmax(features, 1)


@pytest.mark.slow
def test_fid_and_is_with_inception_weights_from_disk(tmp_path):
    stand_in = StandIn().requires_grad_(False)
    torch.jit.script(stand_in).save(str(tmp_path / 'inception.pt'))
    metrics = [
        dict(
            type=kind,
            prefix=prefix,
            fake_nums=40,
            inception_style='StyleGAN',
            inception_path=str(tmp_path / 'inception.pt'),
            sample_model='ema')
        for kind, prefix in (('FrechetInceptionDistance', 'FID'),
                             ('InceptionScore', 'IS'))
    ]
    config = tmp_path / 'test.py'
    config.write_text(f'_base_ = "{ROOT}/configs/biggan_digits_16.py"\n'
                      f'test_evaluator = dict(metrics={metrics!r})\n')
    out = tmp_path / 'metrics.json'
    run = subprocess.run([
        sys.executable, 'tools/test.py', config,
        'checkpoints/biggan_digits_16.pth', '--out', out, '--work-dir',
        tmp_path / 'work'
    ],
                         cwd=ROOT,
                         env=dict(ENV, MMAGIC_CACHE_DIR=str(tmp_path)),
                         capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(out.read_text())
    assert found['FID/fid'] >= 0
    assert 1 <= found['IS/is'] <= 8
