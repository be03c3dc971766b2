"""Real pictures are gone through once, and not kept."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.evaluation import (LabelledImages, domain_quality,
                                    kept_statistics, kernel_distance,
                                    real_images, real_statistics, spreads_of)
from ppcd_mmagic.registry import MODELS


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='DomainClassifier', num_classes=3, base_channels=4)).eval()


def pictures(count, seed=0):
    chance = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 16, 16, generator=chance) * 2 - 1
    return LabelledImages(images, torch.arange(count) % 3)


def in_batches(data, size):
    return zip(data.images.split(size), data.labels.split(size))


def test_streamed_in_any_batches_they_are_those_of_the_whole(judge):
    data = pictures(40)
    with torch.no_grad():
        features = judge.features(data.images).double().numpy()
        right = judge.head(judge.features(data.images)).argmax(1)
    for size in (1, 7, 40):
        found = real_statistics(in_batches(data, size), judge)
        np.testing.assert_allclose(found.mean, features.mean(0), atol=1e-7)
        np.testing.assert_allclose(
            found.covariance, np.cov(features, rowvar=False), atol=1e-8)
        assert found.number == 40
        assert found.accuracy == pytest.approx(
            float((right == data.labels).float().mean()))
        assert found.spreads == pytest.approx(spreads_of(data))


def test_figures_are_those_of_pictures_that_are_kept(judge):
    fake, real = pictures(30, seed=1), pictures(45)
    streamed = real_statistics(in_batches(real, 10), judge)
    a, b = (domain_quality(fake, r, judge) for r in (real, streamed))
    assert a == pytest.approx(b, rel=1e-5, abs=1e-8)


def test_only_a_sample_of_each_class_is_compared(judge, monkeypatch):
    from ppcd_mmagic.evaluation import real_pictures as module
    compared, original = [], module.mean_distance
    monkeypatch.setattr(module, 'mean_distance', lambda images: (
        compared.append(len(images)), original(images))[1])
    monkeypatch.setattr(module, '_BYTES', 5 * 3 * 3 * 16 * 16 * 4)
    found = module.real_statistics(in_batches(pictures(300), 50), judge)
    assert compared == [5, 5, 5]
    whole = spreads_of(pictures(300))
    assert found.spreads == pytest.approx(whole, rel=.05)


def test_kernel_distance_by_hand():
    """Two points each in one dimension, (x y + 1)^3."""
    a, b = torch.tensor([[0.], [1.]]), torch.tensor([[1.], [2.]])
    # within a: k(0, 1) = 1; within b: k(1, 2) = 27;
    # across: k(0, .) = 1 twice, k(1, 1) = 8, k(1, 2) = 27
    assert kernel_distance(a, b) == pytest.approx(
        1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_distance_of_the_same_distribution_is_about_nothing():
    """Also for few, where a Fréchet distance is far from it."""
    chance = torch.Generator().manual_seed(0)
    found = [
        kernel_distance(*torch.randn(2, 20, 8, generator=chance))
        for _ in range(200)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error


def test_kernel_distance_of_a_single_image():
    with pytest.raises(PPCDError, match='not 1 and 2'):
        kernel_distance(torch.zeros(1, 3), torch.zeros(2, 3))


@pytest.fixture
def loader(tmp_path):
    for label in 'abc':
        (tmp_path / label).mkdir()
        for index in range(4):
            picture = np.random.RandomState(index).randint(0, 255, (16, 16, 3))
            cv2.imwrite(str(tmp_path / label / f'{index}.png'), picture)
    dataset = dict(
        type='PictureFolder',
        data_root=str(tmp_path),
        pipeline=[
            dict(type='LoadImageFromFile', key='gt'),
            dict(type='PackInputs', keys='gt')
        ])
    return Runner.build_dataloader(
        dict(
            batch_size=5,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False)))


def read_by(loader, judge, monkeypatch):
    read = []
    original = type(loader.dataset).prepare_data
    with monkeypatch.context() as patch:
        patch.setattr(
            type(loader.dataset), 'prepare_data', lambda self, index:
            (read.append(index), original(self, index))[1])
        found = kept_statistics(loader, judge)
    return found, len(read)


def test_they_are_kept_beside_the_pictures(loader, judge, monkeypatch):
    first, read = read_by(loader, judge, monkeypatch)
    assert read == 12
    again, read = read_by(loader, judge, monkeypatch)
    assert read == 0
    for a, b in zip(first, again):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
        else:
            assert a == b
    assert first.number == 12 == len(real_images(loader).labels)


def test_another_judge_and_other_pictures_are_gone_through_anew(
        loader, judge, monkeypatch, tmp_path):
    read_by(loader, judge, monkeypatch)
    with torch.no_grad():
        judge.head.bias += 1
    assert read_by(loader, judge, monkeypatch)[1] == 12
    path = tmp_path / 'a' / '0.png'
    cv2.imwrite(str(path), np.zeros((16, 16, 3), np.uint8))
    assert read_by(loader, judge, monkeypatch)[1] == 12


def test_a_spoilt_record_is_made_anew(loader, judge, monkeypatch, tmp_path):
    read_by(loader, judge, monkeypatch)
    record, = tmp_path.glob('.ppcd_mmagic_*.pth')
    record.write_bytes(record.read_bytes()[:500])
    assert read_by(loader, judge, monkeypatch)[1] == 12
    assert read_by(loader, judge, monkeypatch)[1] == 0
