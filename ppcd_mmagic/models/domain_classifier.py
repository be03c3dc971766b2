from typing import Dict, List, Optional, Union

import torch.nn as nn
import torch.nn.functional as F
from mmagic.structures import DataSample
from mmengine.model import BaseModel
from torch import Tensor

from ppcd_mmagic.registry import MODELS


@MODELS.register_module()
class DomainClassifier(BaseModel):
    """A small convolutional classifier of the training data.

    It judges generated images where Inception's features mean little, as on
    digits: trained on the real images, it gives class accuracy and a feature
    space for a Fréchet distance within the domain.

    Args:
        num_classes (int): Number of classes.
        base_channels (int): Width of the first of three stages.
            Defaults to 32.
        feature_dim (int): Length of the feature vector. Defaults to 64.
        depth (int): Convolutions in each stage. Defaults to 1.
        data_preprocessor (dict, optional): MMagic's ``DataPreprocessor``.

    Example:
        >>> judge = MODELS.build(dict(type='DomainClassifier', num_classes=10))
        >>> judge.features(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        num_classes: int,
        base_channels: int = 32,
        feature_dim: int = 64,
        depth: int = 1,
        data_preprocessor: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.num_classes = num_classes
        widths = [3, base_channels, 2 * base_channels, 2 * base_channels]
        self.stages = nn.Sequential(
            *[
                nn.Sequential(
                    *[
                        layer
                        for index in range(depth)
                        for layer in (
                            nn.Conv2d(
                                c_out if index else c_in,
                                c_out,
                                3,
                                padding=1,
                                bias=False,
                            ),
                            nn.BatchNorm2d(c_out),
                            nn.ReLU(),
                        )
                    ],
                    nn.MaxPool2d(2),
                )
                for c_in, c_out in zip(widths, widths[1:])
            ]
        )
        self.neck = nn.Sequential(
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * widths[-1], feature_dim),
            nn.ReLU(),
        )
        self.head = nn.Linear(feature_dim, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [-1, 1] to features (n, feature_dim)."""
        return self.neck(self.stages(images))

    def forward(
        self, inputs: Tensor, data_samples: DataSample, mode: str = 'tensor'
    ) -> Union[Dict[str, Tensor], List[DataSample]]:
        """Loss of a batch of images (n, 3, h, w), or its predictions."""
        logits = self.head(self.features(inputs))
        if mode == 'loss':
            labels = data_samples.gt_label.label.flatten()
            return dict(loss=F.cross_entropy(logits, labels))
        predicted = data_samples.split(allow_nonseq_value=True)
        for sample, label in zip(predicted, logits.argmax(1)):
            sample.set_field(label, 'pred_label')
        return predicted
