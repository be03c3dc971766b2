"""What is written by each format, read back by its own library."""

import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout

import onnx
import onnxruntime
import pytest
import torch
from conftest import (
    CLASSES,
    NOISE,
    ROOT,
    STUDENTS,
    build_generator,
    every_class,
    prune,
)
from mmagic.apis import init_model
from mmagic.models.editors.sagan import SNGANGenerator
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file
from test_export import student_checkpoint, training_config

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.export import (
    FORMATS,
    FormatMismatch,
    build_student,
    check_formats,
    export_student,
    save_export,
)
from ppcd_mmagic.generators import generators_of
from ppcd_mmagic.registry import MODELS

# of formats that older ones cannot write
pytestmark = pytest.mark.needs_torch('2.6')

NAMES = ['sagan', 'biggan']
# the others are written in a second or two
QUICK = [name for name in FORMATS if name != 'aoti']
OUT_OF_RANGE = [-1, -CLASSES, CLASSES, CLASSES + 7]


@pytest.fixture(scope='module', params=NAMES)
def written(request, tmp_path_factory):
    """A pruned student in every format, and the student itself."""
    folder = tmp_path_factory.mktemp(request.param)
    out = folder / 'export'
    student = build_generator(STUDENTS[request.param])
    prune(student, 0.5)
    config = training_config(STUDENTS[request.param])
    config.model.data_preprocessor.output_channel_order = 'RGB'
    config.train_dataloader = dict(
        dataset=dict(
            type='BasicConditionalDataset',
            data_root=str(folder),
            classes=list('abcde'),
        )
    )
    export = export_student(
        config, student_checkpoint(folder / 's.pth', student)
    )
    with redirect_stdout(io.StringIO()) as printed:
        save_export(export, str(out), QUICK)
    assert printed.getvalue() == '', 'what torch.onnx has to tell'
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
            yield (
                noise[:count],
                labels[:count],
                student(noise[:count], label=labels[:count]),
            )


def test_one_file_for_each_format(written):
    out, _ = written
    assert {path.name for path in out.iterdir()} == {
        'config.py',
        'summary.json',
        'generator.pth',
        'generator.pt2',
        'generator.onnx',
        'generator.safetensors',
    }


def test_torch_export(written):
    out, student = written
    program = torch.export.load(out / 'generator.pt2')
    for noise, label, expected in batches(student):
        torch.testing.assert_close(
            program.module()(noise=noise, label=label),
            expected,
            rtol=0,
            atol=1e-5,
        )
    for label in OUT_OF_RANGE:
        with pytest.raises(RuntimeError, match=r'label out of range.*0 to 4'):
            program.module()(
                noise=torch.randn(2, NOISE), label=torch.tensor([0, label])
            )


def test_onnx(written):
    out, student = written
    model = onnx.load(out / 'generator.onnx')
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ['noise', 'label']
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == 'batch'
    session = onnxruntime.InferenceSession(
        out / 'generator.onnx', providers=['CPUExecutionProvider']
    )

    def run(noise, label):
        return torch.from_numpy(
            session.run(
                ['image'], dict(noise=noise.numpy(), label=label.numpy())
            )[0]
        )

    for noise, label, expected in batches(student):
        torch.testing.assert_close(
            run(noise, label), expected, rtol=0, atol=1e-4
        )
    for label in OUT_OF_RANGE:
        with pytest.raises(Exception, match='out of data bounds|INVALID_ARG'):
            run(torch.randn(2, NOISE), torch.tensor([0, label]))


def test_safetensors_are_the_weights_that_mmagic_opens(written):
    out, student = written
    state = torch.load(out / 'generator.pth')['state_dict']
    tensors = load_file(out / 'generator.safetensors')
    assert tensors.keys() == state.keys()
    assert all(torch.equal(state[key], tensors[key]) for key in state)
    model = init_model(
        str(out / 'config.py'), str(out / 'generator.safetensors'), 'cpu'
    )
    for noise, label, expected in batches(student):
        with torch.no_grad():
            actual = model.generator(noise, label=label)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_every_file_says_what_its_images_are(written):
    """Range of values, order of channels and names of the classes."""
    out, _ = written
    expected = dict(
        channel_order='RGB', value_range=[-1.0, 1.0], class_names=list('abcde')
    )
    extra = dict.fromkeys(expected, '')
    torch.export.load(out / 'generator.pt2', extra_files=extra)
    with safe_open(out / 'generator.safetensors', 'pt') as file:
        texts = [file.metadata(), extra]
    texts.append(
        {
            prop.key: prop.value
            for prop in onnx.load(out / 'generator.onnx').metadata_props
            if prop.key in expected
        }
    )
    for found in texts:
        assert found['channel_order'] == 'RGB'
        assert json.loads(found['value_range']) == [-1.0, 1.0]
        assert json.loads(found['class_names']) == list('abcde')
    assert torch.load(out / 'generator.pth')['meta']['images'] == expected
    assert json.loads((out / 'summary.json').read_text())['images'] == expected


@pytest.mark.parametrize(
    'name, version', [('torch_export', '2.5'), ('onnx', '2.6'), ('aoti', '2.6')]
)
def test_a_format_that_this_torch_cannot_write_is_refused(
    name, version, monkeypatch
):
    monkeypatch.setattr(torch, '__version__', '2.4.1')
    with pytest.raises(PPCDError, match=f'{name} needs torch {version}.*2.4.1'):
        check_formats([name])
    check_formats(['mmagic', 'safetensors'])


@pytest.mark.parametrize(
    'name, version', [('torch_export', '2.5.0'), ('onnx', '2.6.0')]
)
def test_the_oldest_torch_that_can_write_a_format_may(
    name, version, monkeypatch
):
    monkeypatch.setattr(torch, '__version__', version)
    check_formats([name])


@pytest.mark.parametrize('command', ['g++', 'icpx', 'ccache g++'])
def test_a_format_that_takes_a_compiler_is_refused_where_there_is_none(
    command, monkeypatch
):
    monkeypatch.setattr(sys, 'platform', 'linux')
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.setenv('CXX', '' if command == 'g++' else command)
    with pytest.raises(
        PPCDError, match=re.escape(f'and there is no "{command}": install it')
    ):
        check_formats(['mmagic', 'aoti'])


@pytest.mark.slow
def test_a_compiler_that_fails_is_one_line(export, tmp_path, monkeypatch):
    from torch._inductor import config

    script = tmp_path / 'c++'
    script.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) exit;; esac\n'
        'echo In file included from omp.h; echo fatal error: no omp.h; exit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv('CXX', str(script))
    with config.patch({'cpp.cxx': (None, str(script))}):
        with pytest.raises(
            PPCDError, match=r'compiler ".*c\+\+" failed \(fatal error: no omp'
        ):
            save_export(export, str(tmp_path / 'export'), ['aoti'])
    assert not (tmp_path / 'export').exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='there is no g++')
def test_a_trained_student_as_a_package_of_aotinductor(
    trained_student, tmp_path
):
    config = Config.fromfile(trained_student.config)
    save_export(
        export_student(config, trained_student.checkpoint),
        str(tmp_path / 'export'),
        ['aoti'],
    )
    student = build_student(config, trained_student.checkpoint)
    package = torch._inductor.aoti_load_package(
        str(tmp_path / 'export' / 'generator.aoti.pt2')
    )
    torch.manual_seed(1)
    noise, label = torch.randn(20, 24), torch.arange(10).repeat(2)
    for count in (1, 3, 20):
        with torch.no_grad():
            expected = student(noise[:count], label=label[:count])
        torch.testing.assert_close(
            package(noise=noise[:count], label=label[:count]),
            expected,
            rtol=0,
            atol=1e-5,
        )
    for wrong in (-1, 10):
        with pytest.raises(RuntimeError, match='label out of range.*0 to 9'):
            package(noise=noise[:2], label=torch.tensor([0, wrong]))
    told = package.get_metadata()
    assert json.loads(told['value_range']) == [-1.0, 1.0]
    assert json.loads(told['class_names'])[3] == '3'


@pytest.mark.parametrize(
    'name, package', [('onnx', 'onnxscript'), ('safetensors', 'safetensors')]
)
def test_format_of_a_missing_package_names_it(name, package, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        'ppcd_mmagic.export.formats.find_spec',
        lambda name: None if name == package else find_spec(name),
    )
    with pytest.raises(
        PPCDError, match=rf'{name} needs {package}: .*\[export\]'
    ):
        check_formats([name])


def test_an_unknown_format_is_refused():
    with pytest.raises(PPCDError, match='no format "pickle": choose from mm'):
        check_formats(['pickle'])


@pytest.mark.parametrize('call', ['by name', 'by position'])
def test_mmagic_generator_refuses_labels_out_of_range(written, call):
    out, _ = written
    config, weights = str(out / 'config.py'), str(out / 'generator.pth')
    generators = [
        init_model(config, weights, device='cpu').generator,
        build_trained_generator(Config.fromfile(config), weights, 'student'),
    ]
    for generator in generators:
        positions = (
            (0,) if isinstance(generator, SNGANGenerator) else ()
        )  # there num_batches comes before the label
        for label in OUT_OF_RANGE:
            noise, labels = torch.randn(2, NOISE), torch.tensor([0, label])
            with pytest.raises(ValueError, match='knows classes 0 to 4'):
                if call == 'by name':
                    generator(noise, label=labels)
                else:
                    generator(noise, *positions, labels)


@pytest.fixture
def export(tmp_path):
    """A small student's, cheap to write."""
    config = dict(
        STUDENTS['sagan_plain'],
        channels_cfg=[1],
        attention_after_nth_block=0,
        output_scale=8,
    )
    student = build_generator(config)
    prune(student, 0.5)
    return export_student(
        training_config(config), student_checkpoint(tmp_path / 's.pth', student)
    )


def moves_class(label):
    return lambda labels: labels == label


def moves_a_single_image(labels):
    return torch.full((len(labels),), len(labels) == 1)


@pytest.mark.parametrize(
    'name, moved',
    [
        *((name, moves_class(CLASSES - 1)) for name in QUICK),
        ('safetensors', moves_class(0)),
        ('safetensors', moves_a_single_image),
    ],
)
def test_a_file_that_draws_something_else_is_reported(
    name, moved, export, tmp_path
):
    """A hook is in no file of weights, and this one in no graph."""

    def change(module, args, kwargs, out):
        if torch.compiler.is_compiling():
            return out
        return out + 3e-4 * moved(kwargs['label']).view(-1, 1, 1, 1)

    export.generator.register_forward_hook(change, with_kwargs=True)
    with pytest.raises(
        FormatMismatch, match=r'generator\.\w+ differs .* by 0.0003'
    ):
        save_export(export, str(tmp_path / 'export'), [name])


# what is compared is the same in each format, and ONNX takes seconds
@pytest.mark.parametrize('name', ['mmagic', 'torch_export', 'safetensors'])
def test_a_generator_with_nan_is_not_written_without_a_word(
    name, export, tmp_path
):
    with torch.no_grad():
        export.generator.to_rgb.conv.weight[0, 0] = float('nan')
    with pytest.raises(PPCDError, match='differs .* by nan|not finite'):
        save_export(export, str(tmp_path / 'export'), [name])


@pytest.mark.parametrize('name', ['mmagic', 'safetensors'])
def test_a_config_of_another_generator_is_reported(name, export, tmp_path):
    """Weights that fit, read by a generator that computes something else."""
    generator = export.config.model.generator.generator
    generator['act_cfg'] = dict(type='LeakyReLU', negative_slope=0.5)
    with pytest.raises(FormatMismatch, match=r'generator\.\w+ differs'):
        save_export(export, str(tmp_path / 'export'), [name])


def test_trained_student_is_written_in_every_format(trained_student, tmp_path):
    export = export_student(
        Config.fromfile(trained_student.config), trained_student.checkpoint
    )
    save_export(export, str(tmp_path / 'export'), QUICK)
    student = build_student(
        Config.fromfile(trained_student.config), trained_student.checkpoint
    )
    torch.manual_seed(1)
    noise, label = torch.randn(20, 24), torch.arange(10).repeat(2)
    session = onnxruntime.InferenceSession(
        tmp_path / 'export' / 'generator.onnx',
        providers=['CPUExecutionProvider'],
    )
    with torch.no_grad():
        expected = student(noise, label=label)
        program = torch.export.load(
            tmp_path / 'export' / 'generator.pt2'
        ).module()
        torch.testing.assert_close(
            program(noise=noise, label=label), expected, rtol=0, atol=1e-5
        )
    (image,) = session.run(None, dict(noise=noise.numpy(), label=label.numpy()))
    torch.testing.assert_close(
        torch.from_numpy(image), expected, rtol=0, atol=1e-4
    )


def test_each_of_several_generators_has_a_file_of_its_own(tmp_path):
    """CycleGAN's two, pruned each in its own way."""
    config = Config.fromfile(f'{ROOT}/configs/foreign/cyclegan_facades_256.py')
    config.merge_from_dict(
        {
            'model.generator.generator.base_channels': 4,
            'model.generator.generator.num_blocks': 1,
            'model.generator.input_shape': (3, 16, 16),
        }
    )
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    trained = generators_of(model)
    for fraction, generator in zip((3, 2), trained):
        for _, mask in named_masks(generator.module):
            torch.nn.init.uniform_(mask.weight)
            mask.prune(mask.channels // fraction)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    export = export_student(config, str(tmp_path / 'model.pth'), 2)
    out = tmp_path / 'export'
    save_export(export, str(out), QUICK)

    opened = generators_of(
        init_model(
            str(out / 'config.py'), str(out / 'generator.safetensors'), 'cpu'
        )
    )
    sizes, images = set(), torch.randn(3, 3, 16, 16)
    for (name, generator, _, _), of_mmagic in zip(trained, opened):
        session = onnxruntime.InferenceSession(
            out / f'{name}.onnx', providers=['CPUExecutionProvider']
        )
        program = torch.export.load(out / f'{name}.pt2').module()
        with torch.no_grad():
            expected = generator.eval()(images)
            for found, tolerance in (
                (of_mmagic.module.eval()(images), 1e-5),
                (program(input=images), 1e-5),
                (session.run(None, dict(input=images.numpy()))[0], 1e-4),
            ):
                torch.testing.assert_close(
                    torch.as_tensor(found), expected, rtol=0, atol=tolerance
                )
        sizes.add(sum(p.numel() for p in of_mmagic.module.parameters()))
    assert len(sizes) == 2


@pytest.mark.slow
def test_command_line_writes_what_is_asked_for(tmp_path, repo):
    student = build_generator(STUDENTS['sagan'])
    prune(student, 0.6)
    checkpoint = student_checkpoint(tmp_path / 's.pth', student)
    training_config(STUDENTS['sagan']).dump(str(tmp_path / 'train.py'))
    run = subprocess.run(
        [
            sys.executable,
            'tools/export.py',
            tmp_path / 'train.py',
            checkpoint,
            '--format',
            'safetensors',
            'onnx',
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    names = {path.name for path in (tmp_path / 'export').iterdir()}
    assert names == {
        'config.py',
        'summary.json',
        'generator.onnx',
        'generator.safetensors',
    }
