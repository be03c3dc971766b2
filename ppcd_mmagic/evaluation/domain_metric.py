"""Metrics in the feature space of a classifier of the training data.

They carry "domain" in their names because they are not Inception's FID and
IS: figures compare only between models judged by the same classifier.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn as nn
from mmagic.evaluation.metrics.base_gen_metric import GenerativeMetric
from mmengine.logging import print_log
from scipy import linalg
from torch import Tensor
from torch.utils.data import DataLoader

from ppcd_mmagic.building import built_or_refused
from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import METRICS, MODELS
from .checks import check_images, check_number
from .real_pictures import (
    LabelledImages,
    RealStatistics,
    features_of,
    kept_statistics,
    real_batches,
    real_statistics,
    spreads_of,
)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""Fréchet distance between Gaussians fitted to two sets of features.

    :math:`|\mu_a - \mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})` (Heusel et
    al., 2017), in float64; the trace of the root is the sum of the square
    roots of the product's eigenvalues.

    Args:
        a (np.ndarray): Shape (n, d), n >= 2.
        b (np.ndarray): Shape (m, d), m >= 2.

    Raises:
        PPCDError: If there are fewer, or a value is not finite.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(100, 4))
        >>> round(frechet_distance(features, features + 0.5), 6)
        1.0
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise PPCDError(
            f'A Fréchet distance needs two images on each side, '
            f'not {len(a)} and {len(b)}.'
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise PPCDError(
            'A Fréchet distance needs finite features, but some '
            'are NaN or infinite.'
        )
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    return _frechet(a.mean(0), cov_a, b.mean(0), cov_b)


def _frechet(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    eigenvalues = linalg.eigvals(cov_a @ cov_b).real.clip(min=0)
    return float(
        np.square(mean_a - mean_b).sum()
        + np.trace(cov_a)
        + np.trace(cov_b)
        - 2 * np.sqrt(eigenvalues).sum()
    )


def kernel_distance(a: Tensor, b: Tensor) -> float:
    r"""Squared distance between the means of two sets of features, seen
    through the kernel :math:`(x \cdot y / d + 1)^3` (KID; Binkowski et al.,
    2018). Its expectation does not depend on how many there are, unlike that
    of the Fréchet distance; it may be negative.

    Args:
        a (Tensor): Shape (n, d), n >= 2.
        b (Tensor): Shape (m, d), m >= 2.

    Raises:
        PPCDError: If there are fewer.

    Example:
        >>> kernel_distance(torch.zeros(2, 4), torch.ones(2, 4))
        7.0
    """
    if min(len(a), len(b)) < 2:
        raise PPCDError(
            f'A kernel distance needs two images on each side, '
            f'not {len(a)} and {len(b)}.'
        )

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() @ y.double().T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        pairs = kernel(x, x)
        return (pairs.sum() - pairs.trace()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def precision_and_recall(
    fake: Tensor, real: Tensor, neighbours: int = 3
) -> Tuple[float, float]:
    """Which part of the generated images lies among the real ones, and which
    part of the real ones lies among the generated (Kynkäänniemi et al., 2019):
    no farther from any of them than its third neighbour is.

    Args:
        fake (Tensor): Features (n, d), n > ``neighbours``.
        real (Tensor): Features (m, d), m > ``neighbours``.
        neighbours (int): Which one's distance counts. Defaults to 3.

    Raises:
        PPCDError: If there are fewer.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_and_recall(torch.tensor([[0.0], [0.1], [0.2], [9.0]]), real)
        (0.75, 1.0)
    """
    if min(len(fake), len(real)) <= neighbours:
        raise PPCDError(
            f'Precision and recall need {neighbours + 1} images on each side, '
            f'not {len(fake)} and {len(real)}.'
        )
    fake, real = fake.double(), real.double()
    return (
        _part_among(fake, real, neighbours),
        _part_among(real, fake, neighbours),
    )


def _part_among(points: Tensor, others: Tensor, neighbours: int) -> float:
    # itself is the first of its neighbours
    radii = torch.cat(
        [
            torch.cdist(chunk, others).kthvalue(neighbours + 1).values
            for chunk in others.split(1024)
        ]
    )
    among = torch.cat(
        [
            (torch.cdist(chunk, others) <= radii).any(1)
            for chunk in points.split(1024)
        ]
    )
    return float(among.double().mean())


def variety(
    fake: LabelledImages, real: Union[LabelledImages, Dict[int, float]]
) -> float:
    """How much images of one class differ, 1 being as much as real ones.

    Mean L2 distance between the pairs of one class, over that of the real
    images, averaged over the classes that have pairs on both sides.

    Args:
        fake (LabelledImages): Generated images.
        real (LabelledImages | dict): Real ones, or what :func:`spreads_of`
            says of them.

    Raises:
        PPCDError: If no class has, or real images of a class are all alike.

    Example:
        >>> real = LabelledImages(torch.randn(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))
        >>> half = LabelledImages(real.images / 2, real.labels)
        >>> round(variety(half, real), 6)
        0.5
    """
    wanted = spreads_of(real) if isinstance(real, LabelledImages) else real
    found = {
        label: spread
        for label, spread in spreads_of(fake).items()
        if label in wanted
    }
    if not found:
        raise PPCDError(
            'Variety needs two generated and two real images of '
            'at least one class: generate more images.'
        )
    alike = [label for label in found if not wanted[label]]
    if alike:
        raise PPCDError(
            'Variety needs real images that differ, but those of '
            f'class {alike[0]} are all alike.'
        )
    return float(
        np.mean([spread / wanted[label] for label, spread in found.items()])
    )


def confusion_matrix(
    asked: Tensor, recognised: Tensor, num_classes: int
) -> Tensor:
    """Counts (num_classes, num_classes): rows asked, columns recognised. What
    is off the diagonal is class leakage.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2)
        tensor([[1, 0],
                [1, 1]])
    """
    index = asked * num_classes + recognised
    return torch.bincount(index, minlength=num_classes**2).view(
        num_classes, num_classes
    )


@built_or_refused('the classifier')
def build_classifier(config: dict, checkpoint: str) -> nn.Module:
    """A frozen :class:`DomainClassifier` with weights from a checkpoint."""
    classifier = MODELS.build(config)
    load_weights(classifier, checkpoint, 'classifier')
    return classifier.requires_grad_(False).eval()


@torch.no_grad()
def recognise(classifier: Any, images: Tensor, asked: Tensor) -> Tensor:
    """The :func:`confusion_matrix` of generated images.

    Args:
        classifier (nn.Module): See :func:`build_classifier`.
        images (Tensor): Shape (n, 3, h, w), in [-1, 1].
        asked (Tensor): Classes they were generated for, shape (n, ).

    Raises:
        PPCDError: If images are not finite or not in [-1, 1].

    Example:
        >>> judge = MODELS.build(dict(type='DomainClassifier', num_classes=3)).eval()
        >>> images, asked = torch.zeros(4, 3, 16, 16), torch.tensor([0, 1, 2, 2])
        >>> recognise(judge, images, asked).sum(1)  # as many as were asked for
        tensor([1, 1, 2])
    """
    check_images(images, -1, 1, 'judged')
    recognised = torch.cat(
        [
            classifier.head(classifier.features(chunk)).argmax(1)
            for chunk in images.split(256)
        ]
    )
    return confusion_matrix(asked, recognised, classifier.num_classes)


@torch.no_grad()
def domain_quality(
    fake: LabelledImages,
    real: Union[LabelledImages, RealStatistics],
    classifier: Any,
) -> Dict[str, float]:
    """Judge generated images against real ones.

    Args:
        fake (LabelledImages): Generated images.
        real (LabelledImages | RealStatistics): Real ones.
        classifier (nn.Module): See :func:`build_classifier`.

    Returns:
        dict: ``accuracy``, the fraction recognised as the class asked for;
        ``variety`` (see :func:`variety`); ``frechet``, the Fréchet distance
        between the classifier's features; ``kid``, the
        :func:`kernel_distance` between them; ``precision`` and ``recall``, see
        :func:`precision_and_recall`; ``score``, exp of the mean KL divergence
        between predicted and mean class distribution (the formula of the
        Inception Score, up to the number of classes).

    Raises:
        PPCDError: If images are not finite or not in [-1, 1], or too few for
            one of the figures.

    Example:
        >>> judge = MODELS.build(dict(type='DomainClassifier', num_classes=2)).eval()
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> real = LabelledImages(torch.rand(4, 3, 16, 16), labels)
        >>> sorted(domain_quality(real, real, judge))
        ['accuracy', 'frechet', 'kid', 'precision', 'recall', 'score', 'variety']
    """
    check_images(fake.images, -1, 1, 'generated')
    if isinstance(real, LabelledImages):
        real = real_statistics([real], classifier)
    fake_features = features_of(fake.images, classifier)
    fake_probs = classifier.head(fake_features).softmax(1).double()
    mean_probs = fake_probs.mean(0)
    divergence = (
        fake_probs
        * (
            fake_probs.clamp_min(1e-12).log()
            - mean_probs.clamp_min(1e-12).log()
        )
    ).sum(1)
    precision, recall = precision_and_recall(fake_features.cpu(), real.features)
    return dict(
        accuracy=float((fake_probs.argmax(1) == fake.labels).double().mean()),
        variety=variety(fake, real.spreads),
        frechet=_distance_to(real, fake_features.cpu()),
        kid=kernel_distance(fake_features.cpu(), real.features),
        precision=precision,
        recall=recall,
        score=float(divergence.mean().exp()),
    )


@torch.no_grad()
def class_distances(
    fake: LabelledImages, real: RealStatistics, classifier: nn.Module
) -> Dict[int, float]:
    """Which classes are drawn worst: the :func:`kernel_distance` of each.

    Args:
        fake (LabelledImages): Generated images.
        real (RealStatistics): Of the real ones.
        classifier (nn.Module): See :func:`build_classifier`.

    Returns:
        dict: The distance by class, of those that have two images or more on
        both sides. Of few images it scatters widely, and about the truth.

    Example:
        >>> judge = MODELS.build(dict(type='DomainClassifier', num_classes=2)).eval()
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> fake = LabelledImages(torch.rand(4, 3, 16, 16), labels)
        >>> real = real_statistics([fake], judge)
        >>> list(class_distances(fake, real, judge))
        [0, 1]
    """
    features = features_of(fake.images, classifier).cpu()
    found = {}
    for label in fake.labels.unique().tolist():
        sides = (
            features[fake.labels.cpu() == label],
            real.features[real.labels == label],
        )
        if min(map(len, sides)) > 1:
            found[label] = kernel_distance(*sides)
    return found


def _distance_to(real: RealStatistics, features: Tensor) -> float:
    if min(real.number, len(features)) < 2:
        raise PPCDError(
            'A Fréchet distance needs two images on each side, '
            f'not {len(features)} and {real.number}.'
        )
    exact = features.double().numpy()
    if not (np.isfinite(exact).all() and real.covariance.isfinite().all()):
        raise PPCDError(
            'A Fréchet distance needs finite features, but some '
            'are NaN or infinite.'
        )
    return _frechet(
        exact.mean(0),
        np.atleast_2d(np.cov(exact, rowvar=False)),
        real.mean.numpy(),
        real.covariance.numpy(),
    )


def real_images(dataloader: DataLoader) -> LabelledImages:
    """All images of a data loader, on the CPU."""
    images, labels = zip(*real_batches(dataloader))
    return LabelledImages(torch.cat(images), torch.cat(labels))


@METRICS.register_module()
class DomainMetric(GenerativeMetric):
    """:func:`domain_quality` as a metric of MMagic.

    Args:
        fake_nums (int): Number of images to generate.
        classifier (dict): Config of a :class:`DomainClassifier`.
        checkpoint (str): Its weights.
        prefix (str): Defaults to 'domain'.
        per_class (bool): Whether the kernel distance of each class is logged
            as well, as ``kid/3`` for class 3. Defaults to False.
        **kwargs: Those of MMagic's ``GenerativeMetric``.

    Raises:
        PPCDError: If ``fake_nums`` is less than 4, or the checkpoint does not
            fit.

    Example:
        >>> val_evaluator = dict(
        ...     metrics=[
        ...         dict(
        ...             type='DomainMetric', fake_nums=1000, per_class=True,
        ...             classifier=dict(type='DomainClassifier', num_classes=10),
        ...             checkpoint='judge.pth',
        ...         )
        ...     ]
        ... )
    """

    def __init__(
        self,
        fake_nums: int,
        classifier: dict,
        checkpoint: str,
        prefix: str = 'domain',
        per_class: bool = False,
        **kwargs,
    ) -> None:
        check_number(fake_nums, 4)
        super().__init__(fake_nums, prefix=prefix, **kwargs)
        self.classifier = build_classifier(classifier, checkpoint)
        self.per_class = per_class
        self.real: Optional[RealStatistics] = None
        self._shape = torch.Size()

    def prepare(self, module: nn.Module, dataloader: DataLoader) -> None:
        """Go through the real images, once in a run, and say how well the
        classifier judges."""
        super().prepare(module, dataloader)
        if self.real is not None:
            return
        self.real = kept_statistics(dataloader, self.classifier)
        print_log(
            f'{self.prefix}: the classifier that judges recognises '
            f'{100 * self.real.accuracy:.1f} % of the real images',
            'current',
        )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect generated images, a row of pixels and label for each."""
        for sample in data_samples:
            image = sample.get(self.sample_model, sample)['fake_img']
            self._shape = image.shape
            label = sample['gt_label']['label']
            self.fake_results.append(
                torch.cat([image.flatten().cpu(), label.flatten().cpu()])[None]
            )

    def compute_metrics(self, results: List[Tensor]) -> Dict[str, float]:
        """See :func:`domain_quality`."""
        assert self.real is not None  # since it was prepared
        rows = torch.cat(list(results)).cpu()
        fake = LabelledImages(
            rows[:, :-1].view(-1, *self._shape) / 127.5 - 1, rows[:, -1].long()
        )
        found = domain_quality(fake, self.real, self.classifier)
        if self.per_class:
            distances = class_distances(fake, self.real, self.classifier)
            found.update(
                (f'kid/{label}', kid) for label, kid in distances.items()
            )
        return found
