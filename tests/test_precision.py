"""Files that compute in less than float32, and what is told of their cost."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tool_calls import call_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.export import (
    FormatMismatch,
    Precision,
    check_formats,
    cost_of,
    export_student,
    judge_of,
    save_export,
)

# of formats that older ones cannot write
pytestmark = pytest.mark.needs_torch('2.6')

LESS = [Precision(name) for name in ('bf16', 'fp16', 'int8')]


@pytest.fixture(scope='module')
def written(trained_student, tmp_path_factory):
    """A trained student, in all that torch and ONNX Runtime have."""
    folder = tmp_path_factory.mktemp('precision') / 'export'
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        export = export_student(
            Config.fromfile(trained_student.config), trained_student.checkpoint
        )
        save_export(export, str(folder), ['torch_export', 'onnx'], LESS)
    return export, folder


def test_each_format_is_written_in_what_it_has(written):
    _, folder = written
    assert {path.name for path in folder.iterdir()} == {
        'config.py',
        'summary.json',
        'generator.bf16.pt2',
        'generator.fp16.pt2',
        'generator.fp16.onnx',
        'generator.int8.onnx',
    }


@torch.no_grad()
def test_what_a_precision_costs_stands_in_the_summary(written):
    """Measured again, on other noise."""
    export, folder = written
    costs = json.loads((folder / 'summary.json').read_text())['costs']
    noise, label = torch.randn(200, 24), torch.arange(10).repeat(20)
    expected = export.generator(noise, label=label)
    given = dict(noise=noise.numpy(), label=label.numpy())
    found = {}
    for name in ('bf16', 'fp16'):
        program = torch.export.load(folder / f'generator.{name}.pt2').module()
        found[f'generator.{name}.pt2'] = program(noise=noise, label=label)
    for name in ('fp16', 'int8'):
        session = onnxruntime.InferenceSession(
            folder / f'generator.{name}.onnx',
            providers=['CPUExecutionProvider'],
        )
        (image,) = session.run(['image'], given)
        assert image.dtype == np.float32
        found[f'generator.{name}.onnx'] = torch.from_numpy(image)
        with pytest.raises(Exception, match='out of data bounds'):
            session.run(None, dict(given, label=given['label'] + 1))
    assert found.keys() == costs.keys()
    for name, image in found.items():
        difference = float((image - expected).abs().mean())
        told = costs[name]['mean_difference']
        assert told == pytest.approx(difference, rel=0.25), name
        assert 1e-5 < told < 0.05, name


def test_convolutions_of_int8_are_of_whole_numbers(written):
    _, folder = written
    model = onnx.load(folder / 'generator.int8.onnx')
    kinds = {init.name: init.data_type for init in model.graph.initializer}
    sources = {
        node.output[0]: kinds.get(node.input[0]) for node in model.graph.node
    }
    weights = [
        sources.get(node.input[1])
        for node in model.graph.node
        if node.op_type == 'Conv'
    ]
    assert len(weights) > 6
    assert set(weights) == {onnx.TensorProto.INT8}
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told['value_range']) == [-1.0, 1.0]


def test_more_than_the_tolerance_is_refused(written, tmp_path):
    export, _ = written
    with pytest.raises(
        FormatMismatch,
        match=r'generator.bf16.pt2 differs .* float32 by 0.0\d+ .*: 0.0001\)',
    ):
        save_export(
            export,
            str(tmp_path / 'export'),
            ['torch_export'],
            [Precision('bf16', tolerance=1e-4)],
        )
    assert not (tmp_path / 'export').exists()


def test_images_that_are_no_numbers_are_refused(written):
    export, _ = written
    with pytest.raises(FormatMismatch, match='by nan on average'):
        cost_of(
            export.generator,
            lambda inputs: torch.tensor(float('nan')),
            Precision('int8', tolerance=1.0),
            'file',
        )


@pytest.mark.parametrize(
    'formats, precisions, message',
    [
        (['mmagic'], ['int8'], 'mmagic has no int8: it has fp32'),
        (['aoti'], ['int8', 'fp32'], 'no int8 in the format aoti: onnx have'),
        (['onnx'], ['bf16'], 'onnx has no bf16: it has fp32, fp16, int8'),
        (['onnx'], ['fp32', 'fp8'], 'no fp8 in the format onnx: choose from'),
    ],
)
def test_a_precision_that_no_format_has_is_refused(
    formats, precisions, message, monkeypatch
):
    monkeypatch.setattr('shutil.which', lambda name: name)
    with pytest.raises(PPCDError, match=message):
        check_formats(formats, precisions)


def test_a_judge_is_refused_where_there_is_nothing_to_judge(written):
    export, _ = written
    with pytest.raises(PPCDError, match='a test_dataloader'):
        judge_of(Config(dict()), export.generator, torch.nn.Identity())


def test_command_tells_what_a_classifier_finds(
    trained_student, tmp_path, monkeypatch, capsys
):
    """By an untrained one, which is wrong about all files alike."""
    from ppcd_mmagic.registry import MODELS

    config = f'{ROOT}/configs/classifier/classifier_digits_16.py'
    judge = MODELS.build(Config.fromfile(config).model)
    torch.save(dict(state_dict=judge.state_dict()), tmp_path / 'judge.pth')
    call_tool(
        monkeypatch,
        'export',
        trained_student.config,
        trained_student.checkpoint,
        '--format',
        'torch_export',
        '--precision',
        'bf16',
        '--classifier',
        config,
        tmp_path / 'judge.pth',
        '--out-dir',
        tmp_path / 'export',
    )
    costs = json.loads((tmp_path / 'export' / 'summary.json').read_text())
    cost = costs['costs']['generator.bf16.pt2']
    printed = capsys.readouterr().out
    for key in ('accuracy', 'frechet'):
        before, after = cost['before'][key], cost['after'][key]
        assert after == pytest.approx(before, rel=0.2)
        assert f'{key} {before:.4g} -> {after:.4g}' in printed
    assert cost['before'] != cost['after']
