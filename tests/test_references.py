"""What students computed, weighed and kept when ``references.py`` was run,
they go on to compute, weigh and keep, and what was saved then still loads."""

import json
import os.path as osp

import numpy as np
import pytest
import references
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from runs import checkpoint_of

from ppcd_mmagic.engine import SafeRunner
from ppcd_mmagic.export import build_student, export_student
from ppcd_mmagic.registry import MODELS

NAMES = sorted(references.STUDENTS)


@pytest.fixture(scope='module')
def numbers():
    with np.load(osp.join(references.DATA, 'references.npz')) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture(scope='module')
def structure():
    with open(osp.join(references.DATA, 'references.json')) as file:
        return json.load(file)


def assert_same_images(actual, expected):
    assert expected.std() > 0.1, 'a flat picture would prove nothing'
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_state_dict_has_the_keys_and_shapes_it_had(name, structure):
    student = references.build_student(name)
    assert (
        references.shapes_of(student.state_dict()) == structure[name]['built']
    )


@pytest.mark.parametrize('name', NAMES)
def test_student_draws_what_it_drew(name, numbers):
    assert_same_images(
        references.images_of(references.build_student(name)),
        numbers[f'{name}:images'],
    )


@pytest.mark.parametrize('name', NAMES)
def test_the_same_channels_reach_an_image(name, structure):
    found = references.living_channels(references.build_student(name))
    expected = structure[name]['living']
    assert {
        key: ''.join('01'[alive] for alive in value.tolist())
        for key, value in found.items()
    } == expected


@pytest.mark.parametrize('name', NAMES)
def test_readers_are_cut_off_what_all_writers_have_pruned(name):
    """conv_2 of what conv_1 has; attention of what conv_2 and shortcut of the
    block before have both."""
    student = references.build_student(name)
    living = references.living_channels(student)
    state = student.state_dict()
    convs = ('conv1', 'conv2') if 'biggan' in name else ('conv_1', 'conv_2')
    conv_1, conv_2, shortcut = (
        state.get(f'conv_blocks.0.{conv}.conv.mask.pruned')
        for conv in (*convs, 'shortcut')
    )
    dead = conv_2 if 'shared' in name else conv_2 & shortcut
    assert (shortcut is None) is ('shared' in name)
    for reader, expected in (
        (f'0.{convs[1]}', ~conv_1),
        ('1.theta', ~dead),
        ('1.phi', ~dead),
        ('1.g', ~dead),
        (f'2.{convs[0]}', ~dead),
    ):
        assert torch.equal(living[f'conv_blocks.{reader}.conv/in'], expected), (
            reader
        )
        assert 0 < expected.sum() < len(expected)


@pytest.mark.parametrize('name', NAMES)
def test_scores_have_the_gradients_they_had(name, numbers):
    gradients = references.score_gradients(references.build_student(name))
    expected = {
        key: value
        for key, value in numbers.items()
        if key.startswith(f'{name}:') and key.endswith('mask.weight')
    }
    assert {f'{name}:{key}' for key in gradients} == set(expected)
    for key, gradient in gradients.items():
        wanted = expected[f'{name}:{key}']
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_removal_leaves_the_sizes_it_left(name, structure):
    assert references.shapes_after_removal(name) == structure[name]['removed']


@pytest.mark.parametrize('name', NAMES)
def test_export_has_the_sizes_and_draws_what_the_student_drew(
    name, structure, numbers, tmp_path
):
    generator = references.exported(name, str(tmp_path)).generator
    assert (
        references.shapes_of(generator.state_dict())
        == structure[name]['exported']
    )
    assert_same_images(
        references.images_of(generator), numbers[f'{name}:images']
    )


def old_config(**options):
    config = Config.fromfile(osp.join(references.OLD_RUN, 'config.py'))
    config.merge_from_dict(options)
    return config


def test_old_checkpoint_draws_what_it_drew(numbers, tmp_path):
    student = build_student(
        old_config(), references.old_checkpoint(str(tmp_path))
    )
    assert_same_images(
        references.old_images(student), numbers['old_run:images']
    )


def test_old_checkpoint_is_exported_to_what_it_drew(numbers, tmp_path):
    export = export_student(
        old_config(), references.old_checkpoint(str(tmp_path))
    )
    assert_same_images(
        references.old_images(export.generator), numbers['old_run:images']
    )


def test_old_export_draws_what_it_drew(numbers):
    """As MMagic builds and loads it, by config and checkpoint."""
    folder = osp.join(references.OLD_RUN, 'export')
    config = Config.fromfile(osp.join(folder, 'config.py'))
    model = MODELS.build(config.model).eval()
    load_checkpoint(
        model, osp.join(folder, 'generator.pth'), 'cpu', strict=True
    )
    assert_same_images(
        references.old_images(model.generator), numbers['old_run:images']
    )


def test_old_training_is_resumed(repo, tmp_path):
    """With the sizes it had been cut to, and the optimizer's count."""
    work_dir = tmp_path / 'resumed'
    config = old_config(
        **{'train_cfg.max_iters': 42, 'default_hooks.checkpoint.interval': 1}
    )
    config.work_dir, config.resume = str(work_dir), True
    config.load_from = references.old_checkpoint(str(tmp_path))
    old = torch.load(config.load_from, weights_only=False)
    SafeRunner.from_cfg(config).train()
    new = checkpoint_of(work_dir, 41)
    assert references.shapes_of(new['state_dict']) == references.shapes_of(
        old['state_dict']
    )
    for name in ('generator', 'discriminator'):
        steps = {
            int(state['step'])
            for state in new['optimizer'][name]['state'].values()
        }
        assert steps == {41}
    for key, value in old['state_dict'].items():
        if key.endswith('mask.pruned'):
            assert 0 < value.sum() < len(value)
            assert torch.equal(new['state_dict'][key], value)
