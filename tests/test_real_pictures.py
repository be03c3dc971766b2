"""Real pictures are gone through once, and not kept."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.evaluation import (
    LabelledImages,
    class_distances,
    domain_quality,
    kept_statistics,
    kernel_distance,
    real_images,
    real_statistics,
    spreads_of,
)
from ppcd_mmagic.registry import MODELS


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='DomainClassifier', num_classes=3, base_channels=4)
    ).eval()


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
            found.covariance, np.cov(features, rowvar=False), atol=1e-8
        )
        assert found.number == 40
        assert found.accuracy == pytest.approx(
            float((right == data.labels).float().mean())
        )
        assert found.spreads == pytest.approx(spreads_of(data))


def test_figures_are_those_of_pictures_that_are_kept(judge):
    fake, real = pictures(30, seed=1), pictures(45)
    streamed = real_statistics(in_batches(real, 10), judge)
    a, b = (domain_quality(fake, r, judge) for r in (real, streamed))
    assert a == pytest.approx(b, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize('single', [0, 1, 2])
def test_classes_with_a_picture_or_two(judge, single):
    data = pictures(5)
    chosen = data.labels != single
    data = LabelledImages(
        torch.cat([data.images[chosen], data.images[~chosen][:1]]),
        torch.cat([data.labels[chosen], data.labels[~chosen][:1]]),
    )
    found = real_statistics(in_batches(data, 2), judge)
    assert found.spreads == pytest.approx(spreads_of(data))
    assert single not in found.spreads


class MeanJudge:
    """Its feature is the mean of all values; it recognises class 0."""

    def __init__(self, num_classes=3):
        self.num_classes = num_classes

    def features(self, images):
        return images.mean((1, 2, 3))[:, None]

    def head(self, features):
        return torch.zeros(len(features), 1)


def test_mean_and_variance_of_two_pictures():
    data = LabelledImages(
        torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 3, 2, 2),
        torch.zeros(2).long(),
    )
    found = real_statistics([data], MeanJudge())
    assert (found.number, found.accuracy) == (2, 1)
    assert found.mean.tolist() == [0.5]
    assert found.covariance.tolist() == [[0.125]]
    assert found.mean.dtype == found.covariance.dtype == torch.float64


def compared_by(monkeypatch, data, judge, size=50):
    """How many pictures of each class are compared with one another."""
    compared, pdist = [], torch.pdist

    def watched(rows):
        compared.append(len(rows))
        return pdist(rows)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'pdist', watched)
        found = real_statistics(in_batches(data, size), judge)
    return compared, found


def test_of_each_class_256_pictures_are_compared(monkeypatch):
    compared, found = compared_by(monkeypatch, pictures(780), MeanJudge())
    assert compared == [256] * 3
    assert found.spreads == pytest.approx(spreads_of(pictures(780)), rel=0.01)


@pytest.mark.parametrize(
    'classes, room',
    [
        (7500, 11),  # 11.65 times 3072 bytes for a picture of 3 x 16 x 16
        (16200, 5),  # 5.39
        (10**6, 2),  # no less
    ],
)
def test_fewer_where_those_of_all_classes_would_not_fit_into_256_mib(
    monkeypatch, classes, room
):
    compared, found = compared_by(
        monkeypatch, pictures(60), MeanJudge(classes), 7
    )
    assert compared == [room] * 3
    assert found.spreads == pytest.approx(spreads_of(pictures(60)), rel=0.1)


def thirds(count):
    """Three pictures of each of ``count`` classes: 0, 1/8 and 3/8."""
    values = torch.tensor([0.0, 1.0, 3.0]).repeat_interleave(count) / 8
    return LabelledImages(
        values.view(-1, 1, 1, 1).expand(-1, 3, 2, 2),
        torch.arange(count).repeat(3),
    )


def test_every_pair_is_chosen_as_often_as_any_other():
    """Where there is room for two of three."""
    found = real_statistics(in_batches(thirds(900), 500), MeanJudge(2**30))
    spreads = np.array(list(found.spreads.values())) / np.sqrt(12) * 8
    counts = np.bincount(spreads.round().astype(int))
    assert len(spreads) == counts.sum() == 900
    # 1 apart are the first two, 2 the last two, 3 the ends
    assert abs(counts[1:] - 300).max() < 3 * np.sqrt(900 * 2 / 9)


def test_the_choice_is_the_same_whatever_was_drawn_before():
    torch.manual_seed(1)
    first = real_statistics(in_batches(thirds(50), 40), MeanJudge(2**30))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = real_statistics(in_batches(thirds(50), 40), MeanJudge(2**30))
    assert again.spreads == first.spreads
    assert torch.equal(torch.get_rng_state(), state)


def test_features_of_5000_pictures_are_kept():
    """Of every part of the stream alike."""
    values = torch.linspace(-1, 1, 6000)
    data = LabelledImages(
        values.view(-1, 1, 1, 1).expand(-1, 3, 1, 1), torch.zeros(6000).long()
    )
    kept = real_statistics(in_batches(data, 3000), MeanJudge()).features
    assert kept.shape == (5000, 1) and len(kept.unique()) == 5000
    in_parts = kept[:, 0].histc(6, -1, 1)
    # each of 1000 with a chance of 5/6
    assert (in_parts - 5000 / 6).abs().max() < 4 * np.sqrt(1000 * 5 / 36)


def test_a_loader_may_use_its_memory_again():
    """As one that hands out views of one buffer."""
    data = pictures(12)
    buffer = torch.empty(3, 3, 16, 16)

    def refilled():
        for images, labels in in_batches(data, 3):
            yield LabelledImages(buffer.copy_(images), labels)

    for classes in (3, 2**30):
        found, expected = (
            real_statistics(batches, MeanJudge(classes))
            for batches in (refilled(), in_batches(data, 3))
        )
        assert found.spreads == expected.spreads


def test_kernel_distance_by_hand():
    """In two dimensions, (x y / 2 + 1)^3."""
    a = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    b = torch.tensor([[2.0, 2.0], [4.0, 0.0]])
    # within a all products are 0; within b it is 8: 5^3;
    # across 0 twice, then 4, 8, 4 and 0: 1, 1, 3^3, 5^3, 3^3 and 1
    assert kernel_distance(a, b) == pytest.approx(
        1 + 125 - 2 * (1 + 1 + 27 + 125 + 27 + 1) / 6
    )
    # products within a of the first one's: 4, 2 and 4 on the diagonal
    assert kernel_distance(b, a) == kernel_distance(a, b)


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
    return loader_of(tmp_path)


def loader_of(folder, *transforms):
    dataset = dict(
        type='PictureFolder',
        data_root=str(folder),
        pipeline=[
            dict(type='LoadImageFromFile', key='gt'),
            *transforms,
            dict(type='PackInputs', keys='gt'),
        ],
    )
    return Runner.build_dataloader(
        dict(
            batch_size=5,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )


def read_by(loader, judge, monkeypatch):
    read = []
    original = type(loader.dataset).prepare_data
    with monkeypatch.context() as patch:
        patch.setattr(
            type(loader.dataset),
            'prepare_data',
            lambda self, index: (read.append(index), original(self, index))[1],
        )
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
    assert first.number == 12 and len(first.spreads) == 3


def test_all_images_of_a_loader_are_the_pictures_in_their_order(loader):
    images, labels = real_images(loader)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for index in range(4):
        picture = np.random.RandomState(index).randint(0, 255, (16, 16, 3))
        for place in range(index, 12, 4):  # alike in every class
            np.testing.assert_allclose(
                images[place], picture.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6
            )


def test_pictures_without_a_second_one_of_their_class_are_kept_as_well(
    judge, tmp_path, monkeypatch
):
    for label in 'abc':
        (tmp_path / label).mkdir()
        cv2.imwrite(
            str(tmp_path / label / '0.png'),
            np.full((16, 16, 3), 40 * ord(label) % 255, np.uint8),
        )
    loader = loader_of(tmp_path)
    first, read = read_by(loader, judge, monkeypatch)
    assert read == 3 and first.spreads == {}
    again, read = read_by(loader, judge, monkeypatch)
    assert read == 0 and again.spreads == {}
    assert torch.equal(again.mean, first.mean)


def test_another_judge_and_other_pictures_are_gone_through_anew(
    loader, judge, monkeypatch, tmp_path
):
    read_by(loader, judge, monkeypatch)
    with torch.no_grad():
        judge.head.bias += 1
    assert read_by(loader, judge, monkeypatch)[1] == 12
    flipped = loader_of(tmp_path, dict(type='Flip', keys='gt', flip_ratio=1.0))
    assert read_by(flipped, judge, monkeypatch)[1] == 12
    path = tmp_path / 'a' / '0.png'
    cv2.imwrite(str(path), np.zeros((16, 16, 3), np.uint8))
    assert read_by(loader, judge, monkeypatch)[1] == 12


def test_a_spoilt_record_is_made_anew(loader, judge, monkeypatch, tmp_path):
    read_by(loader, judge, monkeypatch)
    (record,) = tmp_path.glob('.ppcd_mmagic_*.pth')
    record.write_bytes(record.read_bytes()[:500])
    assert read_by(loader, judge, monkeypatch)[1] == 12
    assert read_by(loader, judge, monkeypatch)[1] == 0


def test_distance_of_a_class_is_that_of_its_own_pictures(judge):
    fake, real = pictures(30, seed=1), pictures(45)
    streamed = real_statistics(in_batches(real, 10), judge)
    found = class_distances(fake, streamed, judge)
    assert set(found) == {0, 1, 2}
    with torch.no_grad():
        for label, distance in found.items():
            sides = [
                judge.features(data.images[data.labels == label])
                for data in (fake, real)
            ]
            assert distance == pytest.approx(kernel_distance(*sides), rel=1e-9)


def test_class_with_a_single_picture_has_no_distance(judge):
    real = real_statistics([pictures(45)], judge)
    some = pictures(30, seed=1)
    chosen = (some.labels != 1) | (torch.arange(30) == 1)
    found = class_distances(
        LabelledImages(some.images[chosen], some.labels[chosen]), real, judge
    )
    assert set(found) == {0, 2}


def test_labels_stay_with_the_features_that_are_chosen(judge):
    """Of more pictures than are kept, each class at its own place."""
    label = torch.arange(6000) % 3
    images = (label.float() - 1).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    found = real_statistics(
        in_batches(LabelledImages(images, label), 500), MeanJudge()
    )
    assert len(found.features) == len(found.labels) == 5000
    assert torch.equal(found.features[:, 0] + 1, found.labels.float())
    assert len(found.labels.unique()) == 3
