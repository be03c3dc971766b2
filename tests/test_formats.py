"""What is written by each format, read back by its own library."""
import json
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from conftest import (CLASSES, NOISE, STUDENTS, build_generator, every_class,
                      prune)
from mmagic.apis import init_model
from mmengine.config import Config
from safetensors.torch import load_file
from test_export import student_checkpoint, training_config

from ppcd_mmagic.export import (FormatMismatch, export_student, formats,
                                save_export)
from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.registry import MODELS

NAMES = ['sagan', 'biggan']
OUT_OF_RANGE = [-1, -CLASSES, CLASSES, CLASSES + 7]


@pytest.fixture(scope='module', params=NAMES)
def written(request, tmp_path_factory):
    """A pruned student in every format, and the student itself."""
    out = tmp_path_factory.mktemp(request.param)
    student = build_generator(STUDENTS[request.param])
    prune(student, 0.5)
    export = export_student(
        training_config(STUDENTS[request.param]),
        student_checkpoint(out / 's.pth', student))
    save_export(export, str(out), tuple(formats.FORMATS))
    return out, student


@pytest.fixture(scope='module', autouse=True)
def module_scope():
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        yield


def batches(student):
    """Batches of several sizes, one among them, and the student's images."""
    noise, labels = every_class(3)
    for count in (1, 4, len(labels)):
        with torch.no_grad():
            yield noise[:count], labels[:count], student(
                noise[:count], label=labels[:count])


def test_torch_export(written):
    out, student = written
    program = torch.export.load(out / 'generator.pt2')
    for noise, label, expected in batches(student):
        torch.testing.assert_close(
            program.module()(noise, label), expected, rtol=0, atol=1e-5)
    for label in OUT_OF_RANGE:
        with pytest.raises(RuntimeError, match=r'label out of range.*0 to 4'):
            program.module()(torch.randn(2, NOISE), torch.tensor([0, label]))


def test_onnx(written):
    out, student = written
    model = onnx.load(out / 'generator.onnx')
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ['noise', 'label']
    session = onnxruntime.InferenceSession(
        out / 'generator.onnx', providers=['CPUExecutionProvider'])

    def run(noise, label):
        return torch.from_numpy(
            session.run(['image'],
                        dict(noise=noise.numpy(), label=label.numpy()))[0])

    for noise, label, expected in batches(student):
        torch.testing.assert_close(
            run(noise, label), expected, rtol=0, atol=1e-4)
    for label in OUT_OF_RANGE:
        with pytest.raises(Exception, match='out of data bounds|INVALID_ARG'):
            run(torch.randn(2, NOISE), torch.tensor([0, label]))


def test_safetensors(written):
    out, student = written
    model = Config.fromfile(out / 'config.py').model
    generator = MODELS.build(model.generator).eval()
    generator.load_state_dict(load_file(out / 'generator.safetensors'))
    for noise, label, expected in batches(student):
        with torch.no_grad():
            actual = generator(noise, label=label)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('call', ['by name', 'by position'])
def test_mmagic_generator_refuses_labels_out_of_range(written, call):
    out, _ = written
    config, weights = str(out / 'config.py'), str(out / 'generator.pth')
    generators = [
        init_model(config, weights, device='cpu').generator,
        build_trained_generator(Config.fromfile(config), weights, 'student')
    ]
    for generator in generators:
        positions = (0, ) if type(generator).__name__ == 'SNGANGenerator' \
            else ()  # there num_batches comes before the label
        for label in OUT_OF_RANGE:
            noise, labels = torch.randn(2, NOISE), torch.tensor([0, label])
            with pytest.raises(ValueError, match='knows classes 0 to 4'):
                if call == 'by name':
                    generator(noise, label=labels)
                else:
                    generator(noise, *positions, labels)


def test_a_file_that_differs_is_reported():
    generator = build_generator(STUDENTS['sagan_plain'])
    with pytest.raises(FormatMismatch, match=r'x.onnx differs .* by 0.5'):
        formats._check(
            generator, lambda noise, label: generator(noise, label=label) + .5,
            1e-4, 'x.onnx')


@pytest.mark.slow
def test_command_line_writes_what_is_asked_for(tmp_path, repo):
    student = build_generator(STUDENTS['sagan'])
    prune(student, 0.6)
    checkpoint = student_checkpoint(tmp_path / 's.pth', student)
    training_config(STUDENTS['sagan']).dump(str(tmp_path / 'train.py'))
    run = subprocess.run([
        sys.executable, 'tools/export.py', tmp_path / 'train.py', checkpoint,
        '--round-to', '8', '--format', 'safetensors', 'onnx'
    ],
                         capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr
    assert 'pruned channels revived' in run.stdout
    names = {path.name for path in (tmp_path / 'export').iterdir()}
    assert names == {
        'config.py', 'summary.json', 'generator.onnx', 'generator.safetensors'
    }
    assert json.loads((tmp_path / 'export' /
                       'summary.json').read_text())['round_to'] == 8
