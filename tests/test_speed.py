"""What the speed of a generator is measured on, and what is said of it."""

import json

import pytest
import torch
from conftest import STUDENTS, build_generator, prune
from mmengine.config import Config
from test_export import student_checkpoint, training_config
from tool_calls import call_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import complexity
from ppcd_mmagic.export import Precision, export_student, save_export
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.speed import Way, machine_limit, measure_speed, ways_of

# of formats that older ones cannot write
pytestmark = pytest.mark.needs_torch('2.6')


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    from mmengine.registry import DefaultScope

    folder = tmp_path_factory.mktemp('speed')
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        student = build_generator(STUDENTS['sagan'])
        prune(student, 0.5)
        config = training_config(STUDENTS['sagan'])
        checkpoint = student_checkpoint(folder / 's.pth', student)
        save_export(
            export_student(config, checkpoint),
            str(folder / 'export'),
            ['mmagic', 'onnx', 'torch_export'],
            [Precision(), Precision('fp16'), Precision('bf16')],
        )
    return config, checkpoint, folder / 'export'


def test_every_format_that_is_there_is_measured(export):
    _, _, folder = export
    ways = ways_of(
        Config.fromfile(folder / 'config.py'), str(folder / 'generator.pth')
    )
    assert list(ways) == [
        'dense',
        'exported',
        'exported, contiguous',
        'torch.export',
        'torch.export, bf16',
        'torch.export, fp16',
        'ONNX Runtime',
        'ONNX Runtime, fp16',
    ]
    sizes = {
        name: complexity(way.generator, example_inputs(way.generator, batch=1))[
            'multiply_adds'
        ]
        for name, way in ways.items()
    }
    assert sizes['dense'] > 1.5 * sizes['exported']
    assert len(set(sizes.values())) == 2


def test_every_way_draws_the_same_pictures(export):
    _, _, folder = export
    ways = ways_of(
        Config.fromfile(folder / 'config.py'), str(folder / 'generator.pth')
    )
    ways.pop('dense')  # its weights do not matter
    noise = dict(noise=torch.randn(3, 12), label=torch.tensor([0, 4, 2]))
    with torch.no_grad():
        expected = ways['exported'].run(noise)
        for name, way in ways.items():
            difference = (way.run(noise) - expected).abs().mean()
            assert difference < (0.05 if '16' in name else 1e-5), name


def test_a_training_s_checkpoint_stands_beside_its_teacher(export):
    config, checkpoint, _ = export
    config = config.copy()
    config.model.teacher = dict(
        type='GeneratorTeacher', generator=dict(STUDENTS['biggan'])
    )
    ways = ways_of(config, checkpoint)
    assert list(ways) == [
        'teacher',
        'dense',
        'trained',
        'trained, channels_last',
    ]


class Slow(torch.nn.Linear):
    """A million multiply-adds an image, and 64 MiB."""

    input_shape = (1000,)

    def forward(self, input):
        self.seen = len(input)
        torch.zeros(2**24)
        return super().forward(input)


def test_figures_of_a_way_hang_together():
    net = Slow(1000, 1000).eval()
    found = measure_speed(
        dict(net=Way(lambda inputs: net(**inputs), net)), [1, 4], rounds=2
    )
    assert [speed.batch_size for speed in found] == [1, 4]
    for speed in found:
        assert net.seen == 4 and speed.milliseconds > 0
        assert speed.images_per_second == pytest.approx(
            1e3 * speed.batch_size / speed.milliseconds
        )
        per_second = 1e6 * speed.images_per_second
        # the limit was measured meanwhile, so it is not the one found now
        assert 0 < speed.limit < 1000 * per_second / machine_limit(rounds=1)
        assert speed.mebibytes == pytest.approx(64, abs=8)


def test_command_writes_table_figures_and_picture(
    export, tmp_path, monkeypatch, capsys
):
    _, _, folder = export
    call_tool(
        monkeypatch,
        'benchmark',
        folder / 'config.py',
        folder / 'generator.pth',
        '--batch-sizes',
        2,
        '--rounds',
        1,
        '--out-dir',
        tmp_path,
    )
    rows = json.loads((tmp_path / 'speed.json').read_text())
    assert [row['batch_size'] for row in rows] == [2] * 8
    printed = capsys.readouterr().out
    assert '| dense | 2 |' in printed and '| 1.00 |' in printed
    assert printed.splitlines()[2] in (tmp_path / 'speed.md').read_text()
    assert (tmp_path / 'speed.png').stat().st_size > 5000


def test_missing_weights_are_one_line(export, tmp_path):
    _, _, folder = export
    with pytest.raises(PPCDError, match='none.pth" does not exist'):
        ways_of(
            Config.fromfile(folder / 'config.py'), str(tmp_path / 'none.pth')
        )
