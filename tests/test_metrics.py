import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torchvision.models import ResNet18_Weights

from ppcd_mmagic.datasets import DigitsDataset
from ppcd_mmagic.evaluation.domain_metric import (LabelledImages,
                                                  confusion_matrix,
                                                  domain_quality,
                                                  frechet_distance,
                                                  recognise, variety)
from ppcd_mmagic.models import DomainClassifier
from ppcd_mmagic.registry import METRICS


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(8, 40))
@settings(max_examples=30, deadline=None)
def test_frechet_distance_against_the_matrix_square_root(seed, dim, n):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim))
    b = rng.normal(size=(n + 3, dim)) + rng.normal(size=dim)
    cov_a = np.cov(a, rowvar=False).reshape(dim, dim)
    cov_b = np.cov(b, rowvar=False).reshape(dim, dim)
    root = linalg.sqrtm(cov_a @ cov_b).real.reshape(dim, dim)
    expected = ((a.mean(0) - b.mean(0))**2).sum() + np.trace(cov_a + cov_b -
                                                             2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4,
                                                   abs=1e-6)


def test_frechet_distance_in_closed_form():
    """One dimension: (difference of means)^2 + (difference of spreads)^2."""
    a = np.array([[-1.], [1.]])
    assert frechet_distance(a, 3 * a + 5) == pytest.approx(
        25 + (np.std(a, ddof=1) * 2)**2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def images_of(*pictures, labels):
    return LabelledImages(torch.stack(pictures), torch.tensor(labels))


def test_variety_by_brute_force():
    torch.manual_seed(0)
    fake = LabelledImages(torch.randn(9, 3, 4, 4), torch.arange(9) % 3)
    real = LabelledImages(torch.randn(15, 3, 4, 4), torch.arange(15) % 3)

    def spread(data, label):
        chosen = [x for x, y in zip(*data) if y == label]
        return np.mean([
            float((a - b).square().sum().sqrt()) for i, a in enumerate(chosen)
            for b in chosen[:i]
        ])

    expected = np.mean([spread(fake, k) / spread(real, k) for k in range(3)])
    assert variety(fake, real) == pytest.approx(expected, rel=1e-6)


def test_variety_tells_copies_from_hands():
    real = LabelledImages(torch.randn(20, 3, 4, 4), torch.arange(20) % 2)
    assert variety(real, real) == pytest.approx(1)
    copies = LabelledImages(real.images[:2].repeat(10, 1, 1, 1), real.labels)
    assert variety(copies, real) == 0


def test_confusion_matrix_by_hand():
    asked = torch.tensor([0, 0, 1, 2])
    recognised = torch.tensor([0, 2, 1, 2])
    assert confusion_matrix(asked, recognised, 3).tolist() == [[1, 0, 1],
                                                               [0, 1, 0],
                                                               [0, 0, 1]]


def test_domain_quality_of_real_images_and_of_wrong_labels():
    torch.manual_seed(0)
    classifier = DomainClassifier(num_classes=4).eval()
    images = torch.randn(40, 3, 16, 16)
    with torch.no_grad():
        labels = classifier.head(classifier.features(images)).argmax(1)
    right = LabelledImages(images, labels)
    assert torch.equal(
        recognise(classifier, *right), torch.diag(labels.bincount(minlength=4)))
    quality = domain_quality(right, right, classifier)
    assert quality['accuracy'] == 1
    assert quality['frechet'] == pytest.approx(0, abs=1e-6)
    assert 1 <= quality['score'] <= 4
    wrong = LabelledImages(images, (labels + 1) % 4)
    assert domain_quality(wrong, right, classifier)['accuracy'] == 0


def test_digits_are_the_real_ones():
    every, train, test = (DigitsDataset(split=s) for s in ('all', 'train',
                                                           'test'))
    assert len(every) == 1797 == len(train) + len(test)
    assert {int(every.get_data_info(i)['gt_label'])
            for i in range(1797)} == set(range(10))
    image = every.get_data_info(0)['gt']
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8
    assert image.max() > 200 and image.min() == 0
    with pytest.raises(ValueError, match='split="val"'):
        DigitsDataset(split='val')


def test_class_accuracy_by_a_direct_call_of_the_classifier(tmp_path):
    torch.manual_seed(0)
    classifier = torchvision.models.resnet18(num_classes=5).eval()
    torch.save(classifier.state_dict(), tmp_path / 'resnet18.pth')
    metric = METRICS.build(
        dict(
            type='ClassAccuracy',
            fake_nums=8,
            arch='resnet18',
            num_classes=5,
            checkpoint=str(tmp_path / 'resnet18.pth'),
            sample_model='ema'))
    images = torch.rand(8, 3, 1, 1).mul(255).expand(-1, -1, 224, 224)

    def recognised(rgb):
        transforms = ResNet18_Weights.DEFAULT.transforms()
        mean, std = (
            torch.tensor(x).view(3, 1, 1)
            for x in (transforms.mean, transforms.std))
        with torch.no_grad():
            return classifier((rgb / 255 - mean) / std).argmax(1)

    right = recognised(images[:, [2, 1, 0]])
    assert (right != recognised(images)).any(), 'the colours do not matter'
    asked = right.clone()
    asked[:3] = (asked[:3] + 1) % 5
    metric.process({}, [
        dict(ema=dict(fake_img=image), gt_label=dict(label=label.view(1)))
        for image, label in zip(images[..., :64, :64], asked)
    ])
    assert metric.compute_metrics(metric.fake_results) == {'accuracy': 5 / 8}
    with pytest.raises(ValueError, match='classifier'):
        METRICS.build(
            dict(
                type='ClassAccuracy',
                fake_nums=8,
                checkpoint=str(tmp_path / 'resnet18.pth')))
