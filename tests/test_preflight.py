import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config

from ppcd_mmagic.engine import enable_amp, find_problems


@pytest.fixture
def folder(tmp_path):
    """Three classes of two pictures in ImageNet's layout."""
    for label in range(3):
        path = tmp_path / 'imagenet' / 'train' / f'n0{label}'
        path.mkdir(parents=True)
        for index in range(2):
            picture = np.random.randint(0, 255, (40, 50, 3), np.uint8)
            cv2.imwrite(str(path / f'{index}.JPEG'), picture)
    return tmp_path / 'imagenet'


def config_for(root, num_classes=3):
    return Config(
        dict(
            model=dict(num_classes=num_classes),
            train_dataloader=dict(
                dataset=dict(
                    type='BasicConditionalDataset',
                    data_root=str(root),
                    data_prefix='train'))))


def test_full_size_config_names_everything_it_misses(monkeypatch, tmp_path):
    config = Config.fromfile(f'{ROOT}/configs/ppcd_biggan_128_alpha06.py')
    monkeypatch.chdir(tmp_path)
    problems = find_problems(config)
    assert len(problems) == 3
    for problem, what, how in zip(
            problems, ('teacher checkpoint', 'training data', 'Inception'),
        ('model.teacher.checkpoint=', 'data_root=', 'val_evaluator')):
        assert problem.startswith(what) and how in problem
        assert str(tmp_path) in problem and '\n' not in problem


def test_good_folder(folder):
    assert find_problems(config_for(folder)) == []


def test_empty_folder(tmp_path):
    (tmp_path / 'train').mkdir()
    problem, = find_problems(config_for(tmp_path))
    assert 'wrong layout' in problem and 'one folder of pictures' in problem


def test_class_without_pictures(folder):
    (folder / 'train' / 'n09').mkdir()
    problem, = find_problems(config_for(folder, 4))
    assert 'n09' in problem


def test_pictures_without_class_folders(folder):
    problem, = find_problems(config_for(folder / 'train' / 'n00'))
    assert 'not found' in problem


def test_number_of_classes(folder):
    problem, = find_problems(config_for(folder, 5))
    assert '3 classes' in problem and 'model has 5' in problem


def test_checkpoint_to_start_from(folder):
    config = config_for(folder)
    config.load_from = str(folder / 'none.pth')
    problem, = find_problems(config)
    assert problem.startswith('checkpoint to start from not found')
    assert 'none.pth' in problem


def test_amp_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='needs a GPU'):
        enable_amp(Config(dict(optim_wrapper=dict())))


def test_amp_reaches_every_optimizer(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    config = Config.fromfile(f'{ROOT}/configs/ppcd_biggan_128_alpha06.py')
    enable_amp(config)
    for name in ('generator', 'discriminator'):
        assert config.optim_wrapper[name].type == 'AmpOptimWrapper'
