from typing import Dict, Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from mmagic.evaluation.metrics.base_gen_metric import GenerativeMetric
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import normalize

from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.registry import METRICS
from .checks import check_images, check_number

# what torchvision's classifiers of ImageNet were trained with
SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@METRICS.register_module()
class ClassAccuracy(GenerativeMetric):
    """Fraction of generated images that a classifier of torchvision recognises
    as the class asked for; what is missing to 1 is class leakage.

    It needs no real pictures, as :class:`DomainMetric` does.

    Args:
        fake_nums (int): Number of images to generate, -1 for all that come.
        checkpoint (str): Weights as torchvision publishes them, such as
            ``resnet50-11ad3fa6.pth``. Its classes are those of the folders in
            alphabetical order.
        num_classes (int): Defaults to 1000.
        arch (str): Name of the classifier in torchvision. Defaults to
            'resnet50'.
        prefix (str): Defaults to 'class'.
        **kwargs: Those of MMagic's ``GenerativeMetric``.

    Raises:
        PPCDError: If the checkpoint does not fit, or ``fake_nums`` is 0.

    Example:
        >>> val_evaluator = dict(
        ...     metrics=[
        ...         dict(
        ...             type='ClassAccuracy', fake_nums=5000,
        ...             checkpoint='resnet50-11ad3fa6.pth',
        ...         )
        ...     ]
        ... )
    """

    def __init__(
        self,
        fake_nums: int,
        checkpoint: str,
        num_classes: int = 1000,
        arch: str = 'resnet50',
        prefix: str = 'class',
        **kwargs,
    ) -> None:
        if fake_nums != -1:
            check_number(fake_nums, 1)
        super().__init__(fake_nums, prefix=prefix, **kwargs)
        self.classifier = torchvision.models.get_model(
            arch, num_classes=num_classes
        )
        load_weights(self.classifier, checkpoint, 'classifier')
        self.classifier.requires_grad_(False).eval()

    def prepare(self, module: nn.Module, dataloader: DataLoader) -> None:
        """Judge where the images are made."""
        super().prepare(module, dataloader)
        self.classifier.to(next(module.parameters()).device)

    @torch.no_grad()
    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Judge generated images, BGR and in [0, 255] as MMagic's are.

        Raises:
            PPCDError: See :func:`check_images`.
        """
        images = torch.stack(
            [
                sample.get(self.sample_model, sample)['fake_img']
                for sample in data_samples
            ]
        )
        check_images(images, 0, 255, 'generated')
        asked = torch.cat(
            [sample['gt_label']['label'].flatten() for sample in data_samples]
        )
        images = F.interpolate(
            images.flip(1) / 255,
            size=(SIZE, SIZE),
            mode='bilinear',
            antialias=True,
        )
        recognised = self.classifier(normalize(images, MEAN, STD)).argmax(1)
        hits = recognised == asked.to(recognised.device)
        self.fake_results += hits.float().cpu().split(1)

    def compute_metrics(self, results: Sequence[Tensor]) -> Dict[str, float]:
        """Returns: ``accuracy``, in [0, 1]."""
        return dict(accuracy=float(torch.cat(list(results)).mean()))
