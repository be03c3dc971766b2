import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from conftest import (
    BIGGAN,
    CLASSES,
    NOISE,
    STUDENTS,
    build_generator,
    every_class,
    prune,
)
from mmengine.config import Config
from scipy import stats
from tool_calls import call_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.datasets import class_names
from ppcd_mmagic.export import check_formats, export_student, save_export
from ppcd_mmagic.generators import draw_noise
from ppcd_mmagic.registry import MODELS
from ppcd_mmagic.sampling import ClassSampler, choose_classes, write_pictures

TEACHER = (
    'configs/biggan/biggan_digits_16.py',
    'checkpoints/biggan_digits_16.pth',
)


@MODELS.register_module()
class RedPixelGenerator(nn.Module):
    """Black but for a red pixel in the column of the class, in the row of
    the noise's first value; channels in MMagic's order, BGR."""

    noise_size, num_classes = 3, 4

    def __init__(self):
        super().__init__()
        self.brightness = nn.Parameter(torch.zeros(1))

    def forward(self, noise, label=None):
        images = torch.full((len(noise), 3, 2, self.num_classes), -1.0)
        for image, z, index in zip(images, noise, label):
            image[2, int(z[0] > 0), index] = self.brightness
        return images


def red_pixels(tmp_path, preprocessor=None):
    config = Config(
        dict(
            model=dict(
                generator=dict(type='RedPixelGenerator'),
                data_preprocessor=preprocessor or dict(type='DataPreprocessor'),
            )
        )
    )
    weights = str(tmp_path / 'red.pth')
    torch.save(
        dict(state_dict={'generator.brightness': torch.ones(1)}), weights
    )
    return ClassSampler(config, weights)


def read_rgb(path):
    return cv2.imread(str(path))[..., ::-1].astype(int)


def test_each_file_shows_the_class_in_its_name_in_red(tmp_path):
    out = tmp_path / 'out'
    paths = write_pictures(
        red_pixels(tmp_path), [3, 1], str(out), number=3, batch_size=2
    )
    labels = json.loads((out / 'pictures.json').read_text())['classes']
    assert len(paths) == len(labels) == 6
    rows = draw_noise(3, 3)[:, 0] > 0
    for name, label in labels.items():
        assert name.startswith(f'{label}_')
        expected = np.zeros((2, 4, 3), int)
        expected[int(rows[int(name[2])]), label] = [255, 0, 0]
        np.testing.assert_array_equal(read_rgb(out / name), expected)


def test_generators_of_rgb_are_not_turned_around(tmp_path):
    sampler = red_pixels(
        tmp_path, dict(type='DataPreprocessor', output_channel_order='RGB')
    )
    (image,) = sampler.draw(torch.tensor([0]), torch.ones(1, 3))
    assert image[0, :, 1, 0].tolist() == [0, 0, 255]


def test_grid_has_a_row_for_each_class(tmp_path):
    out = tmp_path / 'out'
    write_pictures(red_pixels(tmp_path), [2, 0], str(out), 3, grid=True)
    grid = read_rgb(out / 'grid.png')
    assert grid.shape == (2 * 4 + 2, 3 * 6 + 2, 3)  # frames of 2 pixels
    red = (grid == [255, 0, 0]).all(-1)
    rows, columns = np.nonzero(red)
    assert len(rows) == 6
    cells = {(int(r) // 4, (int(c) - 2) % 6) for r, c in zip(rows, columns)}
    assert cells == {(0, 2), (1, 0)}


@pytest.mark.parametrize('truncation', [None, 0.5])
def test_a_picture_does_not_depend_on_what_else_is_asked_for(truncation):
    few = draw_noise(2, 7, seed=3, truncation=truncation)
    many = draw_noise(9, 7, seed=3, truncation=truncation)
    torch.testing.assert_close(few, many[:2], rtol=0, atol=0)
    assert not torch.equal(few, draw_noise(2, 7, 4, truncation))


@pytest.mark.parametrize('truncation', [0.3, 1.0, 2.5])
def test_truncated_noise_has_the_cut_normal_distribution(truncation):
    noise = draw_noise(200, 100, truncation=truncation).numpy().ravel()
    assert np.abs(noise).max() <= truncation
    cut = stats.truncnorm(-truncation, truncation)
    assert stats.kstest(noise, cut.cdf).pvalue > 0.01


def test_noise_without_truncation_is_normal():
    noise = draw_noise(200, 100).numpy().ravel()
    assert stats.kstest(noise, 'norm').pvalue > 0.01


def biggan_sampler(tmp_path):
    generator = build_generator(BIGGAN)
    weights = str(tmp_path / 'biggan.pth')
    torch.save(dict(state_dict=generator.state_dict()), weights)
    config = Config(dict(model=dict(generator=BIGGAN)))
    return ClassSampler(config, weights), generator


def test_pictures_are_those_of_the_generator(tmp_path):
    sampler, generator = biggan_sampler(tmp_path)
    noise, labels = every_class(2)
    actual = torch.cat(list(sampler.draw(labels, noise, batch_size=3)))
    with torch.no_grad():
        expected = generator(noise, label=labels).flip(1)
    expected = (expected * 127.5 + 127.5).round().clamp(0, 255)
    torch.testing.assert_close(actual.float(), expected, rtol=0, atol=1)


def test_standing_statistics_are_the_mean_over_the_batches(tmp_path):
    sampler, generator = biggan_sampler(tmp_path)
    sampler.settle_statistics(3, batch_size=20, seed=5, truncation=0.8)
    noise = draw_noise(60, NOISE, 5, 0.8)
    labels = torch.randint(
        CLASSES, (60,), generator=torch.Generator().manual_seed(5)
    )
    # the first norm sees what needs no other norm
    seen = []
    norm = next(m for m in generator.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for z, label in zip(noise.split(20), labels.split(20)):
            generator(z, label=label)
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    settled = next(
        m for m in sampler.generator.modules() if isinstance(m, nn.BatchNorm2d)
    )
    torch.testing.assert_close(settled.running_mean, mean)
    torch.testing.assert_close(settled.running_var, var)
    assert settled.momentum == norm.momentum
    assert not any(m.training for m in sampler.generator.modules())


def test_standing_statistics_need_norms(tmp_path):
    with pytest.raises(PPCDError, match='RedPixelGenerator has none'):
        red_pixels(tmp_path).settle_statistics(2)


NAMES = ['Crane', 'sea lion', 'crane', 'dog']


def test_classes_are_found_by_index_and_by_name():
    wanted = ['2', 'Sea Lion', 'dog']
    assert choose_classes(wanted, 4, lambda: NAMES) == [2, 1, 3]
    assert choose_classes(['all'], 4, lambda: NAMES) == [0, 1, 2, 3]
    # names that are not needed are not asked for
    assert choose_classes(['1'], 4, None) == [1]


@pytest.mark.parametrize(
    'name, message',
    [
        ('cat', 'No class is called "cat"'),
        ('sea', 'there are sea lion'),
        ('crane', 'indices 0, 2'),
    ],
)
def test_unknown_and_ambiguous_names_are_refused(name, message):
    with pytest.raises(PPCDError, match=message):
        choose_classes([name], 4, lambda: NAMES)


def test_names_of_something_else_are_refused():
    with pytest.raises(PPCDError, match='4 class names.*10 classes'):
        choose_classes(['dog'], 10, lambda: NAMES)


def folder_config(root):
    return Config(
        dict(
            train_dataloader=dict(
                dataset=dict(
                    type='BasicConditionalDataset', data_root=str(root)
                )
            )
        )
    )


def test_names_of_folders_are_those_of_the_data_set(tmp_path):
    for name in ('owls', 'Bears', 'cats'):
        (tmp_path / name).mkdir()
    assert class_names(folder_config(tmp_path)) == ['Bears', 'cats', 'owls']


def test_names_come_from_the_digits_from_a_file_and_from_imagenet(tmp_path):
    config = Config.fromfile(TEACHER[0])
    assert class_names(config) == list('0123456789')
    names = tmp_path / 'names.txt'
    names.write_text('one\ntwo words\n')
    assert class_names(config, str(names)) == ['one', 'two words']
    assert class_names(config, 'imagenet')[207] == 'golden retriever'


def test_names_that_nothing_tells_are_asked_for(tmp_path):
    with pytest.raises(PPCDError, match='give the indices'):
        class_names(folder_config(tmp_path / 'absent'))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(number=0), 'number=0 must be at least 1'),
        (dict(classes=[4]), 'Class 4 is out of range.*0 to 3'),
        (dict(truncation=0.0), 'truncation=0.0 must be above 0'),
        (dict(standing_statistics=0), 'batches=0 must be at least 1'),
    ],
)
def test_requests_that_cannot_be_met_leave_no_folder(change, message, tmp_path):
    out = tmp_path / 'out'
    request = {**dict(classes=[1]), **change}
    with pytest.raises(PPCDError, match=message):
        write_pictures(
            red_pixels(tmp_path), request.pop('classes'), str(out), **request
        )
    assert not out.exists()


@pytest.mark.parametrize(
    'config, weights, device, message',
    [
        ('absent.py', TEACHER[1], 'cpu', 'no config "absent.py"'),
        (
            'configs/classifier/classifier_digits_16.py',
            TEACHER[1],
            'cpu',
            'no generator',
        ),
        (TEACHER[0], 'absent.pth', 'cpu', 'generator checkpoint "absent.pth"'),
        (TEACHER[0], 'absent.onnx', 'cpu', '"absent.onnx" does not exist'),
        (TEACHER[0], 'absent.safetensors', 'cpu', 'does not exist'),
        (*TEACHER, 'hdmi', 'device "hdmi" cannot be used'),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    config, weights, device, message, repo
):
    with pytest.raises(PPCDError, match=message):
        ClassSampler(config, weights, device)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(PPCDError, match='cannot be made'):
        write_pictures(red_pixels(tmp_path), [0], str(tmp_path / 'file'))


def test_pictures_are_not_mixed_with_others(tmp_path):
    with pytest.raises(PPCDError, match='not empty'):
        write_pictures(red_pixels(tmp_path), [0], str(tmp_path))


def sample(*args):
    return subprocess.run(
        [sys.executable, 'tools/sample.py', *args],
        capture_output=True,
        text=True,
    )


def test_twelve_pictures_of_a_class_in_one_command(repo, tmp_path):
    out = tmp_path / 'sevens'
    run = sample(*TEACHER, '--classes', '7', '--out-dir', str(out))
    assert run.returncode == 0, run.stderr
    pictures = sorted(name for name in os.listdir(out) if '.png' in name)
    assert pictures == [f'7_{index:02d}.png' for index in range(12)]
    assert read_rgb(out / pictures[0]).shape == (16, 16, 3)


def test_mistakes_on_the_command_line_are_one_line(repo, tmp_path):
    run = sample(*TEACHER, '--classes', 'seven', '--out-dir', str(tmp_path))
    assert run.returncode == 2
    assert run.stderr.splitlines() == ['error: No class is called "seven".']


def test_names_that_are_not_there_are_refused_needed_or_not(
    repo, tmp_path, monkeypatch
):
    given = ('--classes', '7', '--class-names', 'absent.txt')
    with pytest.raises(PPCDError, match='absent.txt'):
        call_tool(
            monkeypatch, 'sample', *TEACHER, *given, '--out-dir', tmp_path
        )


def test_seeds_are_those_that_numpy_takes(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call_tool(monkeypatch, 'interpolate', *TEACHER, '--seed', '4294967296')
    assert '"4294967296" is not below 4294967296' in capsys.readouterr().err


@pytest.mark.parametrize(
    'name, written',
    [
        ('mmagic', 'generator.pth'),
        ('safetensors', 'generator.safetensors'),
        ('onnx', 'generator.onnx'),
    ],
)
def test_an_export_draws_what_its_student_draws(name, written, tmp_path):
    try:
        check_formats([name])
    except PPCDError as problem:
        pytest.skip(str(problem))
    student = build_generator(STUDENTS['sagan'])
    prune(student, 0.5)
    checkpoint = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=student.state_dict()), checkpoint)
    config = Config(
        dict(
            model=dict(
                type='PPCDGAN',
                num_classes=CLASSES,
                noise_size=NOISE,
                data_preprocessor=dict(type='DataPreprocessor'),
                generator=STUDENTS['sagan'],
            )
        )
    )
    save_export(
        export_student(config, checkpoint), str(tmp_path / 'export'), [name]
    )
    noise, labels = every_class()
    (expected,) = ClassSampler(config, checkpoint).draw(labels, noise)
    assert expected.float().std() > 5
    sampler = ClassSampler(
        str(tmp_path / 'export' / 'config.py'),
        str(tmp_path / 'export' / written),
    )
    assert sampler.num_classes == CLASSES
    (actual,) = sampler.draw(labels, noise)
    torch.testing.assert_close(actual.int(), expected.int(), rtol=0, atol=1)
