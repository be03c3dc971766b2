"""What a judge has to know of the real pictures, without keeping them."""

import hashlib
import os
import os.path as osp
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional

import torch
import torch.nn as nn
from mmagic.models.data_preprocessors import DataPreprocessor
from mmengine.dataset import BaseDataset
from torch import Tensor
from torch.utils.data import DataLoader

from ppcd_mmagic.checkpoints import read_checkpoint
from ppcd_mmagic.datasets import fingerprint
from ppcd_mmagic.errors import PPCDError
from .checks import check_images

# of each class so many pictures are compared with one another, or fewer, such
# that those of all classes fit into the memory; and so many features are kept
_PER_CLASS, _BYTES, _FEATURES = 256, 2**28, 5000


class LabelledImages(NamedTuple):
    """Images (n, 3, h, w) in [-1, 1] with labels (n, )."""

    images: Tensor
    labels: Tensor


class RealStatistics(NamedTuple):
    """Of n real pictures with features of length d.

    Attributes:
        number (int): n.
        accuracy (float): Fraction that the classifier recognises.
        mean (Tensor): Of the features, shape (d, ), float64.
        covariance (Tensor): Of the features, shape (d, d), float64.
        spreads (dict): Mean L2 distance between the pictures of a class, of
            up to 256 chosen at random, by class, for those with two or more.
        features (Tensor): Of up to 5000 pictures chosen at random.
        labels (Tensor): Classes of these.
    """

    number: int
    accuracy: float
    mean: Tensor
    covariance: Tensor
    spreads: Dict[int, float]
    features: Tensor
    labels: Tensor


class _Sample:
    """A random choice from a stream, of a size that is fixed beforehand."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.kept: List[Tensor] = []
        self.labels: List[int] = []
        self._seen = 0
        self._chance = torch.Generator().manual_seed(seed)

    def add(self, item: Tensor, label: int) -> None:
        self._seen += 1
        if len(self.kept) < self.size:
            self.kept.append(item.clone())
            self.labels.append(label)
            return
        place = int(torch.randint(self._seen, (1,), generator=self._chance))
        if place < self.size:
            self.kept[place], self.labels[place] = item.clone(), label


def mean_distance(images: Tensor) -> float:
    """Mean L2 distance between the pairs of n >= 2 images."""
    return float(torch.pdist(images.flatten(1).double()).mean())


def spreads_of(data: LabelledImages) -> Dict[int, float]:
    """:func:`mean_distance` of each class that has pairs."""
    counts = torch.bincount(data.labels).tolist()
    return {
        label: mean_distance(data.images[data.labels == label])
        for label, count in enumerate(counts)
        if count > 1
    }


def features_of(images: Tensor, classifier: Any) -> Tensor:
    """What a classifier makes of images (n, 3, h, w), of a part at a time."""
    return torch.cat(
        [classifier.features(chunk) for chunk in images.split(256)]
    )


@torch.no_grad()
def real_statistics(
    batches: Iterable[LabelledImages], classifier: Any
) -> RealStatistics:
    """Go through the real pictures once, keeping none but samples.

    Args:
        batches (Iterable[LabelledImages]): All of them.
        classifier (nn.Module): See :func:`build_classifier`.

    Raises:
        PPCDError: If there are none, or images are not finite or not in
            [-1, 1].

    Example:
        >>> judge = MODELS.build(dict(type='DomainClassifier', num_classes=2)).eval()
        >>> images = torch.rand(4, 3, 16, 16)
        >>> batch = LabelledImages(images, torch.tensor([0, 0, 1, 1]))
        >>> statistics = real_statistics([batch, batch], judge)
        >>> statistics.number, statistics.mean.shape
        (8, torch.Size([64]))
    """
    count = hits = 0
    total = products = torch.zeros(())
    pictures: Dict[int, _Sample] = {}
    sample = _Sample(_FEATURES, seed=0)
    for images, labels in batches:
        check_images(images, -1, 1, 'real')
        room = _BYTES // (images[0].numel() * 4 * classifier.num_classes)
        features = features_of(images, classifier)
        hits += int((classifier.head(features).argmax(1) == labels).sum())
        count += len(images)
        for image, label, feature in zip(
            images, labels.tolist(), features.cpu()
        ):
            if label not in pictures:
                pictures[label] = _Sample(
                    min(_PER_CLASS, max(2, room)), seed=label
                )
            pictures[label].add(image, label)
            sample.add(feature, label)
        exact = features.double().cpu()
        total = total + exact.sum(0)
        products = products + exact.T @ exact
    if not count:
        raise PPCDError('There are no real images to judge by.')
    mean = total / count
    covariance = (products - count * torch.outer(mean, mean)) / max(
        1, count - 1
    )
    return RealStatistics(
        count,
        hits / count,
        mean,
        covariance,
        {
            label: mean_distance(torch.stack(chosen.kept))
            for label, chosen in sorted(pictures.items())
            if len(chosen.kept) > 1
        },
        torch.stack(sample.kept),
        torch.tensor(sample.labels),
    )


def real_batches(dataloader: DataLoader) -> Iterator[LabelledImages]:
    """The pictures of a data loader, on the CPU."""
    preprocess = DataPreprocessor()
    for batch in dataloader:
        # only in training mode does it normalise the images of the samples
        samples = preprocess(batch, training=True)['data_samples']
        yield LabelledImages(samples.gt_img, samples.gt_label.label.flatten())


def kept_statistics(
    dataloader: DataLoader, classifier: nn.Module
) -> RealStatistics:
    """:func:`real_statistics` of a data loader, kept beside pictures in files
    as long as files, their sizes, the pipeline and the classifier stay."""
    path = _record_of(dataloader.dataset, classifier)
    if path is not None:
        try:
            found = read_checkpoint(path, 'record of the real pictures')
            return _unpacked(found)
        except (PPCDError, KeyError):
            pass  # for the first time, or the record is spoilt
    statistics = real_statistics(real_batches(dataloader), classifier)
    if path is not None:
        partial = f'{path}.{os.getpid()}'
        try:
            torch.save(_packed(statistics), partial)
            os.replace(partial, path)
        except (OSError, RuntimeError):
            pass  # a read-only disk: gone through again next time
    return statistics


def _record_of(dataset: BaseDataset, classifier: nn.Module) -> Optional[str]:
    folder = getattr(dataset, 'img_prefix', None)
    if not folder or not osp.isdir(folder):
        return None  # made of no files
    files = [
        osp.relpath(dataset.get_data_info(index)['gt_path'], folder)
        for index in range(len(dataset))
    ]
    digest = hashlib.sha256(fingerprint(folder, files).encode())
    digest.update(repr(dataset.pipeline).encode())
    for name, value in classifier.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return osp.join(folder, f'.ppcd_mmagic_{digest.hexdigest()[:16]}.pth')


def _packed(statistics: RealStatistics) -> Dict[str, Tensor]:
    classes, spreads = (
        zip(*statistics.spreads.items()) if statistics.spreads else ((), ())
    )
    return dict(
        number=torch.tensor(statistics.number),
        accuracy=torch.tensor(statistics.accuracy, dtype=torch.float64),
        mean=statistics.mean,
        covariance=statistics.covariance,
        classes=torch.tensor(classes),
        spreads=torch.tensor(spreads, dtype=torch.float64),
        features=statistics.features,
        feature_labels=statistics.labels,
    )


def _unpacked(found: Dict[str, Tensor]) -> RealStatistics:
    return RealStatistics(
        int(found['number']),
        float(found['accuracy']),
        found['mean'],
        found['covariance'],
        dict(zip(found['classes'].tolist(), found['spreads'].tolist())),
        found['features'],
        found['feature_labels'],
    )
