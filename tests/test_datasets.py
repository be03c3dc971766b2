"""What the networks are shown: digits, and folders of pictures."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from painting import BLUE, GREEN, RED
from PIL import Image
from sklearn.datasets import load_digits

from ppcd_mmagic import PPCDError
from ppcd_mmagic.datasets import DigitsDataset
from ppcd_mmagic.evaluation import real_images
from ppcd_mmagic.registry import DATASETS


def infos(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def pictures_of(split):
    return [info['gt'].tobytes() for info in split]


@pytest.fixture(scope='module')
def splits():
    return {
        name: infos(DigitsDataset(split=name))
        for name in ('all', 'train', 'test')
    }


def test_splits_of_the_digits_are_disjoint_and_complete(splits):
    every, train, test = (
        pictures_of(splits[name]) for name in ('all', 'train', 'test')
    )
    assert len(set(every)) == 1797, 'no two are alike'
    assert not set(train) & set(test)
    assert set(train) | set(test) == set(every)
    assert len(train) + len(test) == 1797
    assert test == every[::5]


def test_both_splits_have_every_digit(splits):
    for split in splits.values():
        assert {info['gt_label'] for info in split} == set(range(10))


def test_labels_are_those_of_their_pictures(splits):
    labels = [info['gt_label'] for info in splits['all']]
    assert labels == load_digits().target.tolist()
    of_picture = dict(zip(pictures_of(splits['all']), labels))
    for name in ('train', 'test'):
        for info in splits[name]:
            assert info['gt_label'] == of_picture[info['gt'].tobytes()]


def enlarged(values: np.ndarray) -> np.ndarray:
    """Twice as long: each new pixel is three quarters of its own and one of
    the neighbour on its side; at the ends there is no neighbour."""
    left = np.concatenate([values[:1], values[:-1]])
    right = np.concatenate([values[1:], values[-1:]])
    pairs = np.stack(
        [0.75 * values + 0.25 * left, 0.75 * values + 0.25 * right]
    )
    return pairs.transpose(1, 0, *range(2, pairs.ndim)).reshape(
        2 * len(values), *values.shape[1:]
    )


def test_digits_are_enlarged_between_their_pixels(splits):
    for info, digit in zip(splits['all'], load_digits().images):
        expected = enlarged(enlarged(digit * 255 / 16).T).T
        assert info['gt'].dtype == np.uint8
        for channel in np.moveaxis(info['gt'], -1, 0):
            assert abs(channel - expected).max() <= 0.5 + 1e-4


def test_digits_of_size_8_are_the_pixels_as_scanned():
    for info, digit in zip(infos(DigitsDataset(size=8)), load_digits().images):
        assert abs(info['gt'][..., 1] - digit * 255 / 16).max() <= 0.5
        assert info['gt'].shape == (8, 8, 3)


def test_unknown_split_is_refused():
    with pytest.raises(PPCDError, match='split="val"'):
        DigitsDataset(split='val')


def test_the_judge_of_the_digits_is_tested_on_what_it_has_not_seen(repo):
    config = Config.fromfile('configs/classifier/classifier_digits_16.py')
    train, val, test = (
        set(pictures_of(infos(DATASETS.build(config[name].dataset))))
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
    )
    assert len(train) == 1437 and val == test and not train & test


def test_real_images_of_the_digits_are_in_order_and_from_minus_one_to_one(
    repo, splits
):
    config = Config.fromfile('configs/_base_/datasets/digits_16.py')
    real = real_images(Runner.build_dataloader(config.test_dataloader))
    expected = np.stack([info['gt'] for info in splits['all']]) / 127.5 - 1
    assert torch.equal(real.labels, torch.tensor(load_digits().target))
    np.testing.assert_allclose(
        real.images.permute(0, 2, 3, 1), expected, atol=1e-6
    )


RGB = dict(blue=(0, 0, 255), green=(0, 255, 0), red=(255, 0, 0))


@pytest.fixture
def pictures(tmp_path):
    """A folder for each colour; the pictures are wider than high, with white
    and black at the sides that the cut leaves out."""
    for name, rgb in RGB.items():
        picture = np.zeros((100, 180, 3), np.uint8)
        picture[:, :40] = 255
        picture[:, 40:140] = rgb
        folder = tmp_path / 'pictures' / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.fromarray(picture).save(folder / f'{index}.png')
    return tmp_path / 'pictures'


@pytest.mark.parametrize(
    'name, size, asked',
    [('folder', 64, None), ('folder', 32, '32'), ('imagenet_128', 128, None)],
)
def test_a_folder_of_pictures_is_cut_square_and_keeps_its_colours(
    name, size, asked, pictures, repo, monkeypatch
):
    if asked:
        monkeypatch.setenv('SIZE', asked)
    loader = Config.fromfile(
        f'configs/_base_/datasets/{name}.py'
    ).test_dataloader
    loader.dataset.update(data_root=str(pictures), data_prefix='')
    loader.update(num_workers=0, persistent_workers=False)
    real = real_images(Runner.build_dataloader(loader))
    assert real.images.shape == (6, 3, size, size)
    assert real.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for image, bgr in zip(real.images[::2], (BLUE, GREEN, RED)):
        torch.testing.assert_close(
            image, bgr.view(3, 1, 1).expand_as(image), rtol=0, atol=0.01
        )


def test_pictures_of_a_folder_are_scaled_down_whole(tmp_path, repo):
    """Left half black, right half white, before and after."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:, 128:] = 255
    for label in ('a', 'b'):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / '0.png'), picture)
    loader = Config.fromfile(
        'configs/_base_/datasets/folder.py'
    ).test_dataloader
    loader.dataset.update(data_root=str(tmp_path))
    loader.update(num_workers=0, persistent_workers=False)
    images = real_images(Runner.build_dataloader(loader)).images
    assert (images[..., :30] == -1).all() and (images[..., 34:] == 1).all()
