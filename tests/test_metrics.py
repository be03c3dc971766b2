"""Metrics, on data whose figures are known."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.runner import Runner
from painting import BLUE, COLOURS, GREEN, RED, register_painter, solid
from scipy import linalg, stats
from torch_fidelity.metric_fid import (
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchvision.models import ResNet18_Weights

from ppcd_mmagic import PPCDError
from ppcd_mmagic.evaluation import (
    LabelledImages,
    build_classifier,
    confusion_matrix,
    domain_quality,
    frechet_distance,
    kernel_distance,
    recognise,
    variety,
)
from ppcd_mmagic.models import DomainClassifier
from ppcd_mmagic.registry import METRICS, MODELS

# ---------------------------------------------------------- Fréchet distance


def features(*shape):
    return np.random.default_rng(0).normal(size=shape)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(8, 40))
@settings(max_examples=30, deadline=None)
def test_frechet_distance_against_the_matrix_square_root(seed, dim, n):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim))
    b = rng.normal(size=(n + 3, dim)) + rng.normal(size=dim)
    cov_a = np.cov(a, rowvar=False).reshape(dim, dim)
    cov_b = np.cov(b, rowvar=False).reshape(dim, dim)
    root = linalg.sqrtm(cov_a @ cov_b).real.reshape(dim, dim)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        cov_a + cov_b - 2 * root
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_frechet_distance_of_a_set_to_itself_is_zero():
    a = features(50, 6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_a_shift_is_its_square():
    a = features(50, 3)
    shift = np.array([1.0, -2.0, 3.0])
    assert frechet_distance(a, a + shift) == pytest.approx(1 + 4 + 9)
    assert frechet_distance(a + shift, a) == pytest.approx(1 + 4 + 9)


def test_frechet_distance_of_a_wider_set_is_the_square_of_the_spreads():
    """Along each axis: (difference of the standard deviations)^2."""
    a = np.array([[x, y] for x in (-1.0, 1.0) for y in (-2.0, 2.0)])
    wider = a * [3, 2]  # deviations of 1 and 2, times sqrt(4 / 3)
    assert frechet_distance(a, wider) == pytest.approx(
        4 / 3 * ((3 - 1) ** 2 + (4 - 2) ** 2)
    )


def test_frechet_distance_of_features_that_never_vary_along_an_axis():
    a = np.hstack([features(20, 2), np.zeros((20, 1))])
    assert frechet_distance(a, a + [0, 0, 2]) == pytest.approx(4)


def test_frechet_distance_of_two_images_each():
    a, b = (
        np.array([[0.0], [2.0]]),
        np.array([[1.0], [5.0]]),
    )  # variances 2 and 8
    assert frechet_distance(a, b) == pytest.approx((1 - 3) ** 2 + 2)


def test_frechet_distance_of_half_precision_is_computed_in_double():
    """Single means of halves would be rounded to an eighth."""
    a = np.array([[200.0, 0.0], [200.0, 1.0], [200.125, 2.0]], np.float16)
    b = np.array([[100.0, 0.0], [100.0625, 1.0], [100.0, 2.0]], np.float16)
    expected = frechet_distance(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, abs=1e-9)


def test_frechet_distance_refuses_nan_and_single_images():
    a = features(5, 2)
    broken = a.copy()
    broken[3, 1] = np.nan
    for pair in ((a, broken), (broken, a), (a, a / 0.0)):
        with pytest.raises(PPCDError, match='finite features'):
            frechet_distance(*pair)
    for pair in ((a, a[:1]), (a[:1], a)):
        with pytest.raises(PPCDError, match='two images on each side'):
            frechet_distance(*pair)


# ------------------------------------------------------------------- variety


def test_variety_by_brute_force():
    torch.manual_seed(0)
    fake = LabelledImages(torch.randn(9, 3, 4, 4), torch.arange(9) % 3)
    real = LabelledImages(torch.randn(15, 3, 4, 4), torch.arange(15) % 3)

    def spread(data, label):
        chosen = [x for x, y in zip(*data) if y == label]
        return np.mean(
            [
                np.sqrt(np.square(a.numpy().astype(float) - b.numpy()).sum())
                for i, a in enumerate(chosen)
                for b in chosen[:i]
            ]
        )

    expected = np.mean([spread(fake, k) / spread(real, k) for k in range(3)])
    assert variety(fake, real) == pytest.approx(expected, rel=1e-12)


def test_variety_of_the_real_images_is_one_and_of_copies_zero():
    real = LabelledImages(torch.randn(20, 3, 4, 4), torch.arange(20) % 2)
    assert variety(real, real) == pytest.approx(1)
    copies = LabelledImages(real.images[:2].repeat(10, 1, 1, 1), real.labels)
    assert variety(copies, real) == 0


def test_variety_of_images_half_as_far_apart_is_half():
    real = LabelledImages(torch.randn(20, 3, 4, 4), torch.arange(20) % 2)
    closer = LabelledImages(real.images / 2 + 0.3, real.labels)
    assert variety(closer, real) == pytest.approx(0.5)
    assert variety(real, closer) == pytest.approx(2)


def test_variety_leaves_out_classes_without_a_pair():
    """Class 0 has pairs, class 1 a single generated image, class 2 a single
    real one, class 3 no generated and class 4 no real one."""
    dots = torch.tensor([0.0, 1.0, 3.0, 7.0, 12.0, 20.0]).view(-1, 1, 1, 1)
    fake = LabelledImages(dots, torch.tensor([0, 0, 1, 2, 2, 4]))
    real = LabelledImages(2 * dots, torch.tensor([0, 0, 1, 1, 2, 3]))
    assert variety(fake, real) == pytest.approx(1 / 2)


def test_variety_refuses_what_it_cannot_compare():
    images = torch.randn(4, 3, 2, 2)
    one_each = LabelledImages(images, torch.arange(4))
    pairs = LabelledImages(images, torch.tensor([0, 0, 1, 1]))
    for fake, real in ((one_each, pairs), (pairs, one_each)):
        with pytest.raises(PPCDError, match='two generated and two real'):
            variety(fake, real)
    alike = LabelledImages(images[[0, 1, 2, 2]], pairs.labels)
    with pytest.raises(PPCDError, match='class 1 are all alike'):
        variety(pairs, alike)


# ------------------------------------------------------- confusion and score


def test_confusion_matrix_by_hand():
    asked = torch.tensor([0, 0, 1, 2])
    recognised = torch.tensor([0, 2, 1, 2])
    assert confusion_matrix(asked, recognised, 3).tolist() == [
        [1, 0, 1],
        [0, 1, 0],
        [0, 0, 1],
    ]


def test_confusion_matrix_has_the_classes_that_nobody_asked_for():
    matrix = confusion_matrix(torch.tensor([0]), torch.tensor([1]), 4)
    assert matrix.shape == (4, 4) and matrix[0, 1] == matrix.sum() == 1


class ColourJudge(torch.nn.Module):
    """Its features are the mean blue, green and red; the class is the colour
    that is strongest, the surer the larger ``sure``."""

    num_classes = 3

    def __init__(self, sure=100.0):
        super().__init__()
        self.head = torch.nn.Linear(3, 3, bias=False)
        self.head.weight.data = sure * COLOURS

    def features(self, images):
        return images.mean((2, 3))


def labelled(*colours, labels):
    return LabelledImages(
        torch.stack([solid(c, 2) for c in colours]), torch.tensor(labels)
    )


def noisy(count=30):
    """Images that differ within every class, none brighter than 0.5."""
    generator = torch.Generator().manual_seed(0)
    return LabelledImages(
        torch.rand(count, 3, 4, 4, generator=generator) - 0.5,
        torch.arange(count) % 3,
    )


def test_recognise_counts_what_was_asked_for_and_what_was_seen():
    images = labelled(RED, RED, BLUE, GREEN, labels=[0, 1, 2, 2])
    assert recognise(ColourJudge(), *images).tolist() == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 1, 1],
    ]


def test_recognise_sees_every_image_once_however_many_there_are():
    images = torch.stack([solid(c, 1) for c in COLOURS]).repeat(200, 1, 1, 1)
    matrix = recognise(ColourJudge(), images, torch.arange(3).repeat(200))
    assert matrix.tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200]]


@pytest.fixture
def real():
    return noisy()


def test_a_classifier_that_judges_is_frozen(tmp_path):
    config = dict(type='DomainClassifier', num_classes=3, base_channels=4)
    trained = MODELS.build(dict(config)).train()
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'judge.pth')
    judge = build_classifier(config, str(tmp_path / 'judge.pth'))
    assert not any(module.training for module in judge.modules())
    assert not any(weight.requires_grad for weight in judge.parameters())
    for key, value in trained.state_dict().items():
        assert torch.equal(judge.state_dict()[key], value), key


def test_four_generated_and_four_real_images_are_enough():
    """Variances are over n - 1: along red 4 / 3 and 16 / 3 times 0.01."""
    fake, other = (
        LabelledImages(
            torch.stack([solid(0.1 * RED * scale, 2) for scale in scales]),
            torch.zeros(4).long(),
        )
        for scales in ((1, 1, 3, 3), (2, 2, 6, 6))
    )
    found = domain_quality(fake, other, ColourJudge())
    # means differ by 2 along three axes, on which deviations are alike
    assert found['frechet'] == pytest.approx(
        0.01 * (3 * 2**2 + 3 * (16 / 3) * (1 - 1 / 2) ** 2)
    )
    assert found['variety'] == pytest.approx(1 / 2)
    # from 1 and 3 the third neighbour is 2 away, from 2 and 6 it is 4
    assert (found['precision'], found['recall']) == (1, 1 / 2)
    with pytest.raises(PPCDError, match='need 4 images on each side, not 3'):
        domain_quality(
            LabelledImages(*(x[:3] for x in fake)), other, ColourJudge()
        )


class FarAwayJudge(ColourJudge):
    """Features in the thousands, which single precision knows to 1e-3."""

    def features(self, images):
        return super().features(images) + 5000


def test_features_far_from_zero_lose_nothing_to_single_precision(real):
    found = domain_quality(real, real, FarAwayJudge())
    assert found['frechet'] == pytest.approx(0, abs=1e-8)


class DazzledJudge(ColourJudge):
    """Has no finite feature of an image that is bright."""

    def features(self, images):
        means = super().features(images)
        return means / (means < 0.6)


@pytest.mark.parametrize('side', ['generated', 'real'])
def test_features_that_are_not_finite_are_refused(real, side):
    images = real.images.clone()
    images[3] = 0.9
    pair = [LabelledImages(images, real.labels), real]
    with pytest.raises(PPCDError, match='needs finite features'):
        domain_quality(
            *pair[:: 1 if side == 'generated' else -1], DazzledJudge()
        )


def test_generated_images_that_are_the_real_ones(real):
    found = domain_quality(real, real, ColourJudge())
    assert found['frechet'] == pytest.approx(0, abs=1e-9)
    assert found['variety'] == pytest.approx(1)


def test_brighter_images_are_as_far_as_they_are_brighter(real):
    """A mutant that compares real with real, or fake with fake, gives 0."""
    brighter = LabelledImages(
        real.images + torch.tensor([0.1, 0.2, 0.4]).view(3, 1, 1), real.labels
    )
    found = domain_quality(brighter, real, ColourJudge())
    assert found['frechet'] == pytest.approx(0.01 + 0.04 + 0.16, rel=1e-4)
    assert found['variety'] == pytest.approx(1)


def test_variety_and_frechet_are_of_the_generated_against_the_real(real):
    closer = LabelledImages(real.images / 2, real.labels)
    found = domain_quality(closer, real, ColourJudge())
    assert found['variety'] == pytest.approx(0.5)
    # half the mean, half of every spread: all of (x - x / 2)^2
    means = real.images.mean((2, 3)).double()
    assert found['frechet'] == pytest.approx(
        float(means.mean(0).square().sum() / 4 + means.var(0).sum() / 4),
        rel=1e-4,
    )


def with_pairs(fake):
    """Real images of the labels of ``fake``."""
    return LabelledImages(
        torch.rand(len(fake.labels), *fake.images.shape[1:]) / 2, fake.labels
    )


def test_accuracy_is_of_the_generated_images():
    fake = labelled(RED, RED, GREEN, BLUE, RED, labels=[0, 0, 1, 1, 2])
    found = domain_quality(fake, with_pairs(fake), ColourJudge())
    assert found['accuracy'] == pytest.approx(3 / 5)


def test_score_of_sure_predictions_is_the_number_of_classes_seen():
    labels = [0, 0, 1, 1, 2, 2]
    for colours, expected in (
        ((RED, RED, GREEN, GREEN, BLUE, BLUE), 3),
        ((RED, RED, RED, GREEN, GREEN, GREEN), 2),
        ((RED,) * 6, 1),
    ):
        fake = labelled(*colours, labels=labels)
        found = domain_quality(fake, with_pairs(fake), ColourJudge())
        assert found['score'] == pytest.approx(expected)


def test_score_of_unsure_predictions_by_entropies():
    """exp(H(mean) - mean H), with scipy's entropy."""
    fake = noisy()
    judge = ColourJudge(sure=3)
    with torch.no_grad():
        probabilities = (
            judge.head(judge.features(fake.images)).softmax(1).double().numpy()
        )
    expected = np.exp(
        stats.entropy(probabilities.mean(0))
        - stats.entropy(probabilities, axis=1).mean()
    )
    found = domain_quality(fake, with_pairs(fake), judge)
    assert found['score'] == pytest.approx(expected, abs=2e-9)
    assert expected > 1.01


def broken(images, value):
    """The whole green of one image."""
    images = images.clone()
    images[3, 1] = value
    return images


@pytest.mark.parametrize('side', ['generated', 'real'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_images_that_are_not_finite_are_refused(real, side, value):
    other = LabelledImages(broken(real.images, value), real.labels)
    pair = (other, real) if side == 'generated' else (real, other)
    with pytest.raises(PPCDError, match=f'1 of 30 {side} images hold NaN'):
        domain_quality(*pair, ColourJudge())
    with pytest.raises(PPCDError, match='1 of 30 judged images hold NaN'):
        recognise(ColourJudge(), *other)


@pytest.mark.parametrize('side', ['generated', 'real'])
def test_images_of_another_range_are_refused(real, side):
    """From 0 to 255 in place of -1 to 1."""
    other = LabelledImages((real.images + 1) * 127.5, real.labels)
    pair = (other, real) if side == 'generated' else (real, other)
    with pytest.raises(PPCDError, match=rf'{side} images go from .* \[-1, 1\]'):
        domain_quality(*pair, ColourJudge())


@pytest.mark.parametrize('excess, refused', [(0.0019, False), (0.0021, True)])
@pytest.mark.parametrize('sign', [1, -1])
def test_a_thousandth_of_the_range_is_taken_for_rounding(
    real, excess, refused, sign
):
    images = real.images.clone()
    images[0, 0, 0, 0] = sign * (1 + excess)
    try:
        recognise(ColourJudge(), images, real.labels)
    except PPCDError:
        assert refused
    else:
        assert not refused


def test_no_images_are_refused(real):
    none = LabelledImages(real.images[:0], real.labels[:0])
    with pytest.raises(PPCDError, match='no generated images'):
        domain_quality(none, real, ColourJudge())


# -------------------------------------------------------------- DomainMetric


@pytest.fixture
def digits_metric(request, tmp_path, repo):
    """The metric, prepared with a quarter of the digits; and those."""
    torch.manual_seed(0)
    classifier = DomainClassifier(num_classes=10, base_channels=4)
    classifier.head.weight.data *= 1000  # sure, as if it were trained
    torch.save(dict(state_dict=classifier.state_dict()), tmp_path / 'judge.pth')
    metric = METRICS.build(
        dict(
            type='DomainMetric',
            fake_nums=359,
            classifier=dict(
                type='DomainClassifier', num_classes=10, base_channels=4
            ),
            checkpoint=str(tmp_path / 'judge.pth'),
            sample_model='orig',
            **getattr(request, 'param', {}),
        )
    )
    loader = Config.fromfile(
        'configs/_base_/datasets/digits_16.py'
    ).test_dataloader
    loader.dataset.update(split='test', indices=359)
    loader = Runner.build_dataloader(loader)
    model = MODELS.build(
        dict(
            type='DomainClassifier',
            num_classes=10,
            data_preprocessor=dict(type='DataPreprocessor'),
        )
    )
    metric.prepare(model, loader)
    dataset = loader.dataset
    found = [dataset.get_data_info(i) for i in range(len(dataset))]
    return (
        metric,
        classifier.eval(),
        torch.tensor(np.stack([i['gt'] for i in found]))
        .permute(0, 3, 1, 2)
        .float(),
        torch.tensor([i['gt_label'] for i in found]),
    )


def samples_of(images, labels, name='orig'):
    return [
        {name: dict(fake_img=image), 'gt_label': dict(label=label.view(1))}
        for image, label in zip(images, labels)
    ]


def test_domain_metric_of_the_real_pictures_themselves(digits_metric):
    metric, classifier, images, labels = digits_metric
    metric.process({}, samples_of(images[:200], labels[:200]))
    metric.process({}, samples_of(images[200:], labels[200:]))
    found = metric.evaluate()
    with torch.no_grad():
        flat = classifier.neck(classifier.stages(images / 127.5 - 1))
        seen = classifier.head(flat).argmax(1)
    assert set(found) == {
        f'domain/{key}'
        for key in (
            'accuracy',
            'variety',
            'frechet',
            'kid',
            'precision',
            'recall',
            'score',
        )
    }
    assert found['domain/frechet'] == pytest.approx(0, abs=1e-6)
    assert found['domain/precision'] == found['domain/recall'] == 1
    assert found['domain/variety'] == pytest.approx(1)
    assert found['domain/accuracy'] == pytest.approx(
        float((seen == labels).float().mean())
    )


def test_figures_are_those_of_torch_fidelity_on_the_same_features(
    digits_metric,
):
    metric, classifier, images, labels = digits_metric
    noise = torch.randn(
        images.shape, generator=torch.Generator().manual_seed(1)
    )
    fake = (images + 30 * noise).clamp(0, 255)
    metric.process({}, samples_of(fake, labels))
    found = metric.evaluate()
    with torch.no_grad():
        of_fake, of_real = (
            classifier.neck(classifier.stages(x / 127.5 - 1)).double()
            for x in (fake, images)
        )
        scores = isc_features_to_metric(classifier.head(of_fake.float()), 1)
    frechet = fid_statistics_to_metric(
        *map(fid_features_to_statistics, (of_fake, of_real)), verbose=False
    )
    kernel = kid_features_to_metric(
        of_fake,
        of_real,
        kid_subsets=1,
        kid_subset_size=len(images),
        verbose=False,
    )
    among = prc_features_to_metric(of_fake, of_real, verbose=False)
    assert found['domain/frechet'] > 1e-3 and found['domain/score'] > 1.01
    assert 0.1 < found['domain/recall'] != found['domain/precision'] < 1
    for key, expected in (
        ('frechet', frechet['frechet_inception_distance']),
        ('kid', kernel['kernel_inception_distance_mean']),
        ('score', scores['inception_score_mean']),
        ('precision', among['precision']),
        ('recall', among['recall']),
    ):
        assert found[f'domain/{key}'] == pytest.approx(expected, rel=1e-4), key


@pytest.mark.parametrize('digits_metric', [dict(per_class=True)], indirect=True)
def test_domain_metric_of_each_class_if_asked_for(digits_metric):
    metric, classifier, images, labels = digits_metric
    metric.process({}, samples_of(images.flip(0), labels.flip(0)))
    found = metric.evaluate()
    assert {key for key in found if 'kid/' in key} == {
        f'domain/kid/{label}' for label in range(10)
    }
    with torch.no_grad():
        features = classifier.features(images[labels == 3] / 127.5 - 1)
    assert found['domain/kid/3'] == pytest.approx(
        kernel_distance(features, features), rel=1e-6
    )


def test_domain_metric_notices_another_range_of_the_images(digits_metric):
    metric, _, images, labels = digits_metric
    metric.process({}, samples_of(images / 2, labels))  # as if up to 127
    found = metric.evaluate()
    assert found['domain/variety'] == pytest.approx(0.5)
    assert found['domain/frechet'] > 1e-3
    metric.process({}, samples_of(images * 2, labels))
    with pytest.raises(PPCDError, match='generated images go from -1 to 3'):
        metric.evaluate()


def test_domain_metric_notices_wrong_labels(digits_metric):
    metric, classifier, images, labels = digits_metric
    with torch.no_grad():
        seen = classifier.head(classifier.features(images / 127.5 - 1)).argmax(
            1
        )
    metric.process({}, samples_of(images, seen))
    right = metric.evaluate()
    metric.process({}, samples_of(images, (seen + 1) % 10))
    wrong = metric.evaluate()
    assert (right['domain/accuracy'], wrong['domain/accuracy']) == (1, 0)


def test_domain_metric_judges_as_many_images_as_it_was_asked_to(digits_metric):
    metric, classifier, images, labels = digits_metric
    with torch.no_grad():
        seen = classifier.head(classifier.features(images / 127.5 - 1)).argmax(
            1
        )
    metric.process({}, samples_of(images, seen))
    metric.process({}, samples_of(images, (seen + 1) % 10))  # superfluous
    assert metric.evaluate()['domain/accuracy'] == 1


def test_domain_metric_takes_the_images_of_the_model_it_was_asked_for(
    digits_metric,
):
    metric, _, images, labels = digits_metric
    samples = [
        {**orig, **ema}
        for orig, ema in zip(
            samples_of(images, labels), samples_of(images / 2, labels, 'ema')
        )
    ]
    metric.process({}, samples)
    assert metric.evaluate()['domain/variety'] == pytest.approx(1)


def test_domain_metric_takes_samples_that_are_of_one_model(digits_metric):
    metric, _, images, labels = digits_metric
    metric.process(
        {},
        [
            dict(sample['orig'], gt_label=sample['gt_label'])
            for sample in samples_of(images, labels)
        ],
    )
    assert metric.evaluate()['domain/variety'] == pytest.approx(1)


def test_domain_metric_refuses_nan(digits_metric):
    metric, _, images, labels = digits_metric
    metric.process({}, samples_of(broken(images, float('nan')), labels))
    with pytest.raises(PPCDError, match='1 of 359 generated images hold NaN'):
        metric.evaluate()


def test_classifier_of_another_shape_is_refused(tmp_path):
    classifier = DomainClassifier(num_classes=3, base_channels=4)
    torch.save(dict(state_dict=classifier.state_dict()), tmp_path / 'judge.pth')
    with pytest.raises(PPCDError, match='The classifier checkpoint'):
        METRICS.build(
            dict(
                type='DomainMetric',
                fake_nums=4,
                classifier=dict(type='DomainClassifier', num_classes=3),
                checkpoint=str(tmp_path / 'judge.pth'),
            )
        )


# ------------------------------------------------------- accuracies of classes


class TellsColours(torch.nn.Module):
    """Given RGB as torchvision's classifiers are: class 0 is bright red, 1
    bright green, 2 bright blue, 3 what is brighter than 0.6 nowhere."""

    def __init__(self, num_classes):
        super().__init__()
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        self.head = torch.nn.Linear(3, num_classes)
        self.head.weight.data = torch.cat([torch.diag(std), torch.zeros(1, 3)])
        self.head.bias.data = torch.cat([mean, torch.tensor([0.6])])

    def forward(self, images):
        assert images.shape[1:] == (3, 224, 224)
        return self.head(images.mean((2, 3)))


def colour_metric(tmp_path, monkeypatch, **changes):
    monkeypatch.setitem(
        torchvision.models._api.BUILTIN_MODELS, 'tells_colours', TellsColours
    )
    torch.save(TellsColours(4).state_dict(), tmp_path / 'colours.pth')
    return METRICS.build(
        dict(
            dict(
                type='ClassAccuracy',
                fake_nums=4,
                arch='tells_colours',
                num_classes=4,
                checkpoint=str(tmp_path / 'colours.pth'),
                sample_model='orig',
            ),
            **changes,
        )
    )


def test_class_accuracy_knows_colours_and_brightness(tmp_path, monkeypatch):
    metric = colour_metric(tmp_path, monkeypatch, fake_nums=8)
    bright = [solid((c + 1) * 127.5) for c in (RED, GREEN, BLUE)]
    dim = [image / 2 for image in bright]
    # all right but the last: dim blue is not blue
    metric.process(
        {}, samples_of(bright + dim, torch.tensor([0, 1, 2, 3, 3, 2]))
    )
    metric.process({}, samples_of(bright[:2], torch.tensor([0, 0])))
    assert metric.evaluate() == {'class/accuracy': pytest.approx(6 / 8)}


@pytest.mark.parametrize('colour', range(3))
def test_class_accuracy_knows_brightness_to_half_a_level(
    tmp_path, monkeypatch, colour
):
    """0.6 of 255 is 153."""
    metric = colour_metric(tmp_path, monkeypatch, fake_nums=2)
    images = torch.zeros(2, 3, 4, 4)
    images[:, 2 - colour] = torch.tensor([153.3, 152.7]).view(2, 1, 1)
    metric.process({}, samples_of(images, torch.tensor([colour, 3])))
    assert metric.evaluate() == {'class/accuracy': 1}


def test_class_accuracy_judges_where_the_images_are_made(tmp_path, monkeypatch):
    metric = colour_metric(tmp_path, monkeypatch)
    model = torch.nn.Linear(1, 1, device='meta')
    model.data_preprocessor = None
    metric.prepare(model, [])
    assert {p.device.type for p in metric.classifier.parameters()} == {'meta'}


def test_class_accuracy_takes_the_images_of_the_model_it_was_asked_for(
    tmp_path, monkeypatch
):
    metric = colour_metric(tmp_path, monkeypatch)
    red, blue = (torch.stack([solid((c + 1) * 127.5)] * 4) for c in (RED, BLUE))
    labels = torch.zeros(4)
    metric.process(
        {},
        [
            {**orig, **ema}
            for orig, ema in zip(
                samples_of(red, labels), samples_of(blue, labels, 'ema')
            )
        ],
    )
    assert metric.evaluate() == {'class/accuracy': 1}


@pytest.mark.parametrize('asked, accuracy', [(4, 1), (-1, 1 / 2)])
def test_class_accuracy_judges_as_many_images_as_it_was_asked_to(
    tmp_path, monkeypatch, asked, accuracy
):
    """-1 means all that come."""
    metric = colour_metric(tmp_path, monkeypatch, fake_nums=asked)
    red = torch.stack([solid((RED + 1) * 127.5)] * 8)
    metric.process({}, samples_of(red, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])))
    assert metric.evaluate() == {'class/accuracy': accuracy}


def test_class_accuracy_shrinks_large_images_by_their_means(
    tmp_path, monkeypatch
):
    """Where a fourth of the pixels is looked at, these lines are all red."""
    metric = colour_metric(tmp_path, monkeypatch)
    red = solid((RED + 1) * 127.5).mean((1, 2)).view(3, 1, 1)
    lines = red * torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(224)
    images = lines.expand(4, 3, 896, 896)
    metric.process({}, samples_of(images, torch.full((4,), 3)))
    assert metric.evaluate() == {'class/accuracy': 1}


def test_weights_for_imagenet_s_thousand_classes_fit_as_they_are(tmp_path):
    path = str(tmp_path / 'squeezenet.pth')
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    metric = METRICS.build(
        dict(
            type='ClassAccuracy',
            fake_nums=1,
            arch='squeezenet1_1',
            checkpoint=path,
            sample_model='orig',
        )
    )
    gray = torch.full((1, 3, 2, 2), 128.0)
    metric.process({}, samples_of(gray, torch.tensor([1000])))
    assert metric.evaluate() == {'class/accuracy': 0}


@pytest.mark.parametrize(
    'value, said',
    [
        (float('nan'), '1 of 4 generated images hold NaN'),
        (1000.0, r'generated images go from 0 to 1000, .* \[0, 255\]'),
        (-2.0, r'generated images go from -2 to 255, .* \[0, 255\]'),
    ],
)
def test_class_accuracy_refuses_broken_images(
    value, said, tmp_path, monkeypatch
):
    metric = colour_metric(tmp_path, monkeypatch)
    images = torch.stack([solid((RED + 1) * 127.5)] * 4)
    with pytest.raises(PPCDError, match=said):
        metric.process({}, samples_of(broken(images, value), torch.zeros(4)))


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
            sample_model='orig',
        )
    )
    images = torch.rand(8, 3, 1, 1).mul(255).expand(-1, -1, 224, 224)

    def recognised(rgb):
        transforms = ResNet18_Weights.DEFAULT.transforms()
        mean, std = (
            torch.tensor(x).view(3, 1, 1)
            for x in (transforms.mean, transforms.std)
        )
        with torch.no_grad():
            return classifier((rgb / 255 - mean) / std).argmax(1)

    right = recognised(images[:, [2, 1, 0]])
    assert (right != recognised(images)).any(), 'the colours do not matter'
    asked = right.clone()
    asked[:3] = (asked[:3] + 1) % 5
    metric.process({}, samples_of(images[..., :64, :64], asked))
    assert metric.evaluate() == {'class/accuracy': 5 / 8}
    # one figure may be right by chance
    metric.process({}, samples_of(images[..., :64, :64], right))
    assert metric.evaluate() == {'class/accuracy': 1}
    with pytest.raises(PPCDError, match='The classifier checkpoint'):
        METRICS.build(
            dict(
                type='ClassAccuracy',
                fake_nums=8,
                checkpoint=str(tmp_path / 'resnet18.pth'),
            )
        )


def test_top1_accuracy_by_hand():
    metric = METRICS.build(dict(type='Top1Accuracy'))
    batches = [[(0, 0), (1, 2)], [(2, 2)], [(3, 3), (4, 0)]]
    for batch in batches:
        metric.process(
            {},
            [
                dict(
                    pred_label=torch.tensor(seen),
                    gt_label=dict(label=torch.tensor([right])),
                )
                for seen, right in batch
            ],
        )
    assert metric.evaluate(5) == {'classifier/accuracy': pytest.approx(3 / 5)}


# ------------------------------------- colours, from the generator to the judge


class MeanColours(torch.nn.Module):
    """Called as the TorchScript Inception of StyleGAN2-ADA, with bytes: its
    features are mean red, green and blue, and their certainty."""

    def forward(
        self,
        image: torch.Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ):
        assert image.dtype == torch.uint8
        features = image.float().mean([2, 3])
        return features if return_features else torch.softmax(features, 1)


def inception_metric(kind, tmp_path, **settings):
    torch.jit.script(MeanColours()).save(str(tmp_path / 'inception.pt'))
    return METRICS.build(
        dict(
            type=kind,
            inception_style='StyleGAN',
            inception_path=str(tmp_path / 'inception.pt'),
            sample_model='orig',
            **settings,
        )
    )


@pytest.fixture
def painted(monkeypatch):
    """What a GAN whose generator paints gives the judges, class by class."""
    model = MODELS.build(
        dict(
            type='SAGAN',
            noise_size=4,
            num_classes=3,
            data_preprocessor=dict(type='DataPreprocessor'),
            generator=register_painter(monkeypatch),
            discriminator=None,
        )
    ).eval()
    samples = []
    while len(samples) < 60:
        samples += model.test_step(
            dict(
                inputs=dict(
                    noise=torch.zeros(30, 4),
                    num_batches=30,
                    sample_model='orig',
                )
            )
        )
    return model, [sample.to_dict() for sample in samples]


def test_every_class_of_a_painter_is_recognised(painted, tmp_path, monkeypatch):
    _, samples = painted
    metric = colour_metric(
        tmp_path, monkeypatch, fake_nums=60, sample_model='orig'
    )
    metric.process({}, samples)
    assert metric.evaluate() == {'class/accuracy': 1}


def test_inception_is_given_red_as_red(painted, tmp_path):
    _, samples = painted
    metric = inception_metric(
        'FrechetInceptionDistance', tmp_path, fake_nums=60
    )
    metric.process({}, samples)
    features = torch.cat(metric.fake_results)
    labels = [int(sample['gt_label']['label']) for sample in samples]
    assert set(labels) == {0, 1, 2}
    for label, feature in zip(labels, features):
        # but for 4 gray dots of 256
        expected = 255 * torch.eye(3)[label]
        assert (feature - expected).abs().max() < 255 * 5 / 256
