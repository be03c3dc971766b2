"""Pictures that are not digits, and Inception weights from disk."""

import json
import os.path as osp

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, config_path
from mmagic.evaluation.functional import inception_utils
from painting import painter_checkpoint, register_painter
from test_training import ENV, finish, train
from tool_calls import call_tool

from ppcd_mmagic.datasets import DigitsDataset


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
                picture[row : row + 128, column : column + 128],
            )
    return tmp_path / 'textures'


@pytest.mark.slow
def test_own_pictures_from_classifier_to_pruned_student(
    textures, tmp_path, monkeypatch
):
    """The three commands of the README, short and narrow."""
    monkeypatch.setitem(ENV, 'PICTURES', str(textures))
    monkeypatch.setitem(ENV, 'CLASSES', '3')
    common = [
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.persistent_workers=False',
        'train_dataloader.batch_size=8',
    ]

    def run(name, *options):
        code, out = finish(
            train(
                tmp_path / name,
                config=config_path(name),
                options=common + list(options),
            )
        )
        assert code == 0, out
        return out

    out = run(
        'classifier_folder',
        'train_cfg.max_iters=60',
        'train_cfg.val_interval=60',
        'param_scheduler.T_max=60',
        'default_hooks.checkpoint.interval=60',
    )
    judge = tmp_path / 'classifier_folder' / 'iter_60.pth'
    accuracy = float(out.split('classifier/accuracy: ')[-1].split()[0])
    assert accuracy > 0.6, 'brick, grass and gravel are easy to tell apart'
    short = [
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
        'model.discriminator.discriminator.base_channels=4',
        f'val_evaluator.metrics.0.checkpoint={judge}',
        f'test_evaluator.metrics.0.checkpoint={judge}',
        'val_evaluator.metrics.0.fake_nums=12',
    ]
    run('biggan_folder', *short, 'model.generator.base_channels=4')
    teacher = tmp_path / 'biggan_folder' / 'iter_2.pth'
    out = run(
        'ppcd_plus_folder',
        *short,
        'model.generator.base_channels=4',
        'model.teacher.generator.base_channels=4',
        f'model.teacher.checkpoint={teacher}',
        'default_hooks.mask_binarization.begin=0',
        'default_hooks.mask_binarization.end=2',
        'default_hooks.mask_binarization.interval=1',
    )
    assert 'domain/frechet' in out and 'loss_pixel' in out


class Colours(torch.nn.Module):
    """Answers like the TorchScript Inception of StyleGAN2-ADA: its features
    are mean red, green and blue."""

    def forward(
        self,
        image: torch.Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ):
        features = image.float().mean([2, 3])
        return features if return_features else torch.softmax(features, 1)


def test_fid_and_is_of_a_generator_that_paints_everything_red(
    tmp_path, monkeypatch, repo
):
    """tools/test.py with Inception weights from disk. The images are all
    alike, so that FID is the squared distance of the means and the variance
    of the digits, and the Inception Score 1."""
    torch.jit.script(Colours()).save(str(tmp_path / 'inception.pt'))
    painter = register_painter(monkeypatch, num_classes=1, dots=False)
    metrics = [
        dict(
            type=kind,
            prefix=prefix,
            fake_nums=40,
            inception_style='StyleGAN',
            inception_path=str(tmp_path / 'inception.pt'),
            sample_model='orig',
        )
        for kind, prefix in (
            ('FrechetInceptionDistance', 'FID'),
            ('InceptionScore', 'IS'),
        )
    ]
    config = tmp_path / 'test.py'
    config.write_text(
        f'_base_ = "{ROOT}/configs/biggan/biggan_digits_16.py"\n'
        'model = dict(_delete_=True, type="SAGAN", noise_size=4, '
        'num_classes=1, data_preprocessor=dict(type="DataPreprocessor"), '
        f'discriminator=None, generator={painter!r})\n'
        f'test_evaluator = dict(metrics={metrics!r})\n'
    )
    checkpoint = painter_checkpoint(
        tmp_path / 'painter.pth', num_classes=1, dots=False
    )
    # where MMagic keeps the features of the real pictures
    monkeypatch.setattr(inception_utils, 'MMAGIC_CACHE_DIR', str(tmp_path))
    call_tool(
        monkeypatch,
        'test',
        config,
        checkpoint,
        '--out',
        tmp_path / 'metrics.json',
        '--work-dir',
        tmp_path / 'work',
    )
    found = json.loads((tmp_path / 'metrics.json').read_text())
    digits = DigitsDataset()
    gray = np.stack(
        [digits.get_data_info(i)['gt'].mean() for i in range(len(digits))]
    )
    means = (gray.mean() - 255) ** 2 + 2 * gray.mean() ** 2
    assert found['FID/fid'] == pytest.approx(
        means + 3 * gray.var(ddof=1), rel=1e-3
    )
    assert found['IS/is'] == pytest.approx(1)
