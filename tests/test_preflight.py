import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, config_path
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
                    data_prefix='train',
                )
            ),
        )
    )


def test_full_size_config_names_everything_it_misses(monkeypatch, tmp_path):
    config = Config.fromfile(f'{ROOT}/configs/ppcd_biggan_128_alpha06.py')
    monkeypatch.chdir(tmp_path)
    problems = find_problems(config)
    assert len(problems) == 3
    for problem, what, how in zip(
        problems,
        ('teacher checkpoint', 'training data', 'Inception'),
        ('model.teacher.checkpoint=', 'data_root=', 'val_evaluator'),
    ):
        assert problem.startswith(what) and how in problem
        assert str(tmp_path) in problem and '\n' not in problem


def test_good_folder(folder):
    assert find_problems(config_for(folder)) == []


def test_empty_folder(tmp_path):
    (tmp_path / 'train').mkdir()
    (problem,) = find_problems(config_for(tmp_path))
    assert 'wrong layout' in problem and 'one folder of pictures' in problem


def test_class_without_pictures(folder):
    (folder / 'train' / 'n09').mkdir()
    (problem,) = find_problems(config_for(folder, 4))
    assert 'n09' in problem


def test_pictures_without_class_folders(folder):
    """The root is taken for the folder of the classes."""
    config = config_for(folder / 'train')
    config.train_dataloader.dataset.data_prefix = 'n00'
    (problem,) = find_problems(config)
    assert 'wrong layout' in problem and str(folder) in problem


def test_folder_that_is_not_there(folder):
    (problem,) = find_problems(config_for(folder / 'train' / 'n00'))
    assert problem.startswith('training data not found')
    assert str(folder / 'train' / 'n00' / 'train') in problem


def test_prefix_as_mmengine_writes_it(folder):
    config = config_for(folder)
    config.train_dataloader.dataset.data_prefix = dict(img_path='train')
    assert find_problems(config) == []
    config.train_dataloader.dataset.data_prefix = dict(img_path='val')
    (problem,) = find_problems(config)
    assert str(folder / 'val') in problem


def test_list_of_pictures_takes_the_place_of_class_folders(folder):
    config = config_for(folder, 7)
    config.train_dataloader.dataset.ann_file = 'list.txt'
    (problem,) = find_problems(config)
    assert problem.startswith('list of training images not found')
    assert str(folder / 'list.txt') in problem
    (folder / 'list.txt').write_text('n00/0.JPEG 0')
    assert find_problems(config) == []


def test_pairs_of_folders_are_no_classes(folder):
    """As of super-resolution; a validation of several data sets is a list."""
    config = Config.fromfile(f'{ROOT}/configs/foreign/edsr_x2_div2k.py')
    dataset = config.train_dataloader.dataset
    dataset.update(
        ann_file='',
        data_root=str(folder / 'train'),
        data_prefix=dict(img='n00', gt='n01'),
    )
    config.val_dataloader = [dict(dataset=dict(dataset))]
    config.val_evaluator = [config.val_evaluator]
    assert find_problems(config) == []
    dataset.data_prefix.gt = 'n07'
    (problem,) = find_problems(config)
    assert problem.startswith('training data not found')
    assert str(folder / 'train' / 'n07') in problem
    assert 'per class' not in problem


def test_data_of_no_files_is_not_looked_for():
    config = config_for('unused')
    del config.train_dataloader.dataset['data_root']
    assert find_problems(config) == []


def test_teacher_that_is_there_and_teacher_without_checkpoint(folder):
    config = config_for(folder)
    config.model.teacher = dict(checkpoint=str(folder / 'teacher.pth'))
    (problem,) = find_problems(config)
    assert problem.startswith('teacher checkpoint not found')
    (folder / 'teacher.pth').touch()
    assert find_problems(config) == []
    config.model.teacher = dict(checkpoint=None)
    assert find_problems(config) == []


def test_teacher_of_a_hook(folder):
    config = config_for(folder)
    config.default_hooks = Config.fromfile(
        f'{ROOT}/configs/foreign/masked_sagan_imagenet_128.py'
    ).default_hooks
    (problem,) = find_problems(config)
    assert problem.startswith('teacher checkpoint not found')
    assert 'default_hooks.extra_losses.teacher.checkpoint=' in problem


def test_classifier_of_a_metric(folder):
    config = config_for(folder)
    judge = folder / 'judge.pth'
    config.val_evaluator = dict(
        metrics=dict(type='ppcd_mmagic.DomainMetric', checkpoint=str(judge))
    )
    (problem,) = find_problems(config)
    assert problem.startswith('classifier of DomainMetric not found')
    assert str(judge) in problem
    judge.touch()
    assert find_problems(config) == []


def test_inception_is_asked_for_once_a_path(folder):
    """Two metrics share theirs; MMagic takes none for a path of its own."""
    config = config_for(folder)
    config.val_evaluator = dict(
        metrics=[
            dict(type='FID', inception_path=path)
            for path in ('one.pt', 'one.pt', None, 'two.pt')
        ]
    )
    first, second = find_problems(config)
    assert 'one.pt' in first and 'two.pt' in second


def test_training_without_validation(folder):
    config = config_for(folder)
    config.val_evaluator = None
    assert find_problems(config) == []


def test_number_of_classes(folder):
    (problem,) = find_problems(config_for(folder, 5))
    assert '3 classes' in problem and 'model has 5' in problem


def test_checkpoint_to_start_from(folder):
    config = config_for(folder)
    config.load_from = str(folder / 'none.pth')
    (problem,) = find_problems(config)
    assert problem.startswith('checkpoint to start from not found')
    assert 'none.pth' in problem


def test_amp_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='needs a GPU'):
        enable_amp(Config(dict(optim_wrapper=dict())))


@pytest.mark.parametrize(
    'name, parts',
    [
        ('ppcd_biggan_128_alpha06', ('generator', 'discriminator')),
        ('classifier_digits_16', (None,)),
    ],
)
def test_amp_reaches_every_optimizer(monkeypatch, name, parts):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    config = Config.fromfile(config_path(name))
    enable_amp(config)
    for part in parts:
        wrapper = config.optim_wrapper
        wrapper = wrapper if part is None else wrapper[part]
        assert wrapper.type == 'AmpOptimWrapper'
        assert wrapper.loss_scale == 'dynamic'
        assert wrapper.optimizer.type == 'Adam'
