from typing import Dict, Sequence, Union

import torch.nn.functional as F
from mmagic.structures import DataSample
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import FeatureTap
from ppcd_mmagic.registry import MODELS
from .augmented_discriminator import AugmentedDiscriminator
from .ppcd_gan import PPCDGAN


@MODELS.register_module()
class ImageDistillationGAN(PPCDGAN):
    """Black-box distillation: the student copies the teacher's images.

    With all three losses this is Tiny-GAN (Chang and Lu, ACCV 2020): pixel
    distance to the teacher's image of the same noise and class, distance of
    the discriminator's features of both images, and an adversarial loss whose
    "real" images are the teacher's. Features are those of the images as they
    are, as in the paper, also where the discriminator is an
    :class:`AugmentedDiscriminator`: of maps drawn for each image alone, those
    of equal images would differ. With the pixel loss alone it is plain
    distillation (Aguinaldo et al., 2019).

    Args:
        *args, **kwargs: Those of :class:`PPCDGAN`; training requires a
            teacher. Set the weight of ``gan_loss`` to 0 for no adversarial
            loss.
        pixel_weight (float): Weight of the mean absolute pixel difference.
            Defaults to 1.0.
        feature_weight (float): Weight of the mean absolute difference of the
            discriminator's features, summed over layers. Defaults to 0.
        feature_layers (str | Sequence[str]): Layers of the discriminator.
            Defaults to 'conv_blocks.*'.
    """

    def __init__(
        self,
        *args,
        pixel_weight: float = 1.0,
        feature_weight: float = 0.0,
        feature_layers: Union[str, Sequence[str]] = 'conv_blocks.*',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pixel_weight = pixel_weight
        self.feature_weight = feature_weight
        self.feature_layers = feature_layers
        if feature_weight:
            FeatureTap(self.discriminator, feature_layers)  # names are checked

    def train_step(
        self, data: dict, optim_wrapper: OptimWrapperDict
    ) -> Dict[str, Tensor]:
        """As its parent's; without a teacher a trained model can be tested,
        but not trained.

        Raises:
            PPCDError: If there is no teacher.
        """
        if self.teacher is None:
            raise PPCDError(
                'ImageDistillationGAN needs a teacher to train: '
                'set `teacher` in the config.'
            )
        return super().train_step(data, optim_wrapper)

    def real_images(
        self, data_samples: DataSample, noise: Tensor, labels: Tensor
    ) -> Tensor:
        """What the discriminator takes for real: the teacher's images."""
        return self.teacher.images(noise, labels)

    def distill(self, noise: Tensor, labels: Tensor) -> tuple:
        """The student's images and the distillation losses."""
        fake_imgs = self.generator(noise, label=labels)
        target = self.teacher.images(noise, self._teacher_labels(labels))
        losses = dict(
            loss_pixel=self.pixel_weight * F.l1_loss(fake_imgs, target)
        )
        if self.feature_weight:
            losses['loss_feature'] = self.feature_weight * sum(
                F.l1_loss(a, b)
                for a, b in zip(
                    self._features(fake_imgs, labels),
                    self._features(target, labels),
                )
            )
        return fake_imgs, losses

    def _features(self, images: Tensor, labels: Tensor) -> Sequence[Tensor]:
        discriminator = self.discriminator
        if is_model_wrapper(discriminator):
            discriminator = discriminator.module
        with FeatureTap(discriminator, self.feature_layers) as tap:
            if isinstance(discriminator, AugmentedDiscriminator):
                discriminator = discriminator.discriminator
            discriminator(images, label=labels)
        return list(tap.features.values())
