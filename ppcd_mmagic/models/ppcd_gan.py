from functools import partial
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmagic.models.base_models import BaseConditionalGAN
from mmagic.structures import DataSample
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import FeatureTap, common_features
from ppcd_mmagic.registry import MODELS
from .augmented_discriminator import AugmentedDiscriminator
from .losses import build_distillation_losses, compared

ModelType = Union[Dict, nn.Module]


@MODELS.register_module()
class PPCDGAN(BaseConditionalGAN):
    """PPCD-GAN: progressive pruning and class-aware distillation.

    One iteration is Procedure 1 of the paper's supplement: a discriminator
    step, then one generator step on L_ADV + L_PP + L_CD (Eq. 8), in which
    student and teacher get the same noise and the same classes, those of the
    batch. Binarization of the masks follows in :class:`MaskBinarizationHook`.

    Args:
        generator (dict | nn.Module): The student, with masks.
        discriminator (dict | nn.Module, optional): Projection discriminator.
        teacher (dict, optional): A :class:`GeneratorTeacher`. None trains without
            distillation.
        loss_config (dict): The adversarial loss ``gan_loss`` (Eq. 7) and, if
            wanted, ``disc_auxiliary_loss`` such as R1, as in MMagic's
            ``BaseGAN``. Defaults to the hinge loss.
        pruning_loss (dict, optional): L_PP, such as :class:`MaskL1Loss`. None
            drops it.
        distillation_loss (dict | Sequence[dict]): L_CD, or several losses
            that compare student and teacher, such as
            :class:`PixelDistillationLoss` and
            :class:`DiscriminatorFeatureLoss`. Defaults to
            :class:`AttentionDistillationLoss`.
        distill_layers (str | Sequence[str]): Layers of the student, compared
            with the teacher's at all resolutions that both have. Defaults to
            'conv_blocks.*'.
        class_aware (bool): Whether the teacher sees the student's classes.
            False gives each sample another class, drawn uniformly
            (class-irrelevant distillation, Sec. II of the supplement).
            Defaults to True.
        teacher_as_real (float): Which part of each batch of real images is
            drawn by the teacher instead, for the same classes and, as the
            fake ones are, for the noise; in [0, 1]. Defaults to 0.
        **kwargs: Those of MMagic's ``BaseConditionalGAN``.

    Raises:
        PPCDError: If student and teacher differ in classes, resolution or
            noise size, a layer is unknown, or two losses have one name; in
            the first step, if the data have no labels, or images of a teacher
            are asked for and there is none.

    Example:
        >>> model = MODELS.build(
        ...     dict(
        ...         type='PPCDGAN', num_classes=3, noise_size=8,
        ...         generator=dict(
        ...             type='PPResSAGANGenerator', output_scale=32, base_channels=8
        ...         ),
        ...         discriminator=dict(
        ...             type='ProjDiscriminator', input_scale=32, base_channels=8
        ...         ),
        ...         pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
        ...         data_preprocessor=dict(type='DataPreprocessor'),
        ...     )
        ... )
        >>> images = model.generator(torch.randn(2, 8), label=torch.tensor([0, 2]))
        >>> images.shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        generator: ModelType,
        discriminator: Optional[ModelType] = None,
        teacher: Optional[dict] = None,
        loss_config: dict = dict(
            gan_loss=dict(type='GANLoss', gan_type='hinge')
        ),
        pruning_loss: Optional[dict] = None,
        distillation_loss: Union[dict, Sequence[dict]] = dict(
            type='ppcd_mmagic.AttentionDistillationLoss'
        ),
        distill_layers: Union[str, Sequence[str]] = 'conv_blocks.*',
        class_aware: bool = True,
        teacher_as_real: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(
            generator, discriminator, loss_config=loss_config, **kwargs
        )
        if not 0 <= teacher_as_real <= 1:
            raise PPCDError(
                f'teacher_as_real={teacher_as_real} must be in [0, 1].'
            )
        self.class_aware = class_aware
        self.teacher_as_real = teacher_as_real
        self.distill_layers = distill_layers
        self.pruning_loss = MODELS.build(pruning_loss) if pruning_loss else None
        self.teacher: Any = None
        self._logged_sizes: Optional[list] = None
        if teacher is not None:
            FeatureTap(self.generator, distill_layers)  # names are checked
            taken = ['loss_adv']
            if self.pruning_loss is not None:
                taken.append(self.pruning_loss.loss_name())
            self.distillation_losses = build_distillation_losses(
                distillation_loss,
                ('features', 'images', 'discriminator features'),
                taken,
                type(self).__name__,
            )
            losses: Iterable[Any] = self.distillation_losses
            for loss in losses:
                if compared(loss) == 'discriminator features':
                    FeatureTap(self._plain_discriminator(), loss.layers)
            self.teacher = MODELS.build(teacher)
            self._check_teacher(self.teacher)

    def _check_teacher(self, teacher: nn.Module) -> None:
        for name, what, owner, more in (
            (
                'num_classes',
                'number of classes',
                teacher,
                ", or say which are which in the teacher's `class_map`",
            ),
            ('output_scale', 'resolution', teacher.generator, ''),
            ('noise_size', 'noise size', teacher.generator, ''),
        ):
            of_student = getattr(self.generator, name)
            of_teacher = getattr(owner, name)
            if of_student != of_teacher:
                raise PPCDError(
                    f'Student and teacher must have the same {what}, but the '
                    f'student has {of_student} and the teacher {of_teacher}: '
                    f'set `{name}` alike in both configs{more}.'
                )

    def data_sample_to_label(self, data_sample: DataSample) -> Optional[Tensor]:
        """Labels (n, ) of a batch.

        Raises:
            PPCDError: If a label is outside [0, num_classes).
        """
        label = super().data_sample_to_label(data_sample)
        if label is None:
            return None
        if label.min() < 0 or label.max() >= self.num_classes:
            raise PPCDError(
                f'Labels from {int(label.min())} to {int(label.max())} do not '
                f'fit a model of {self.num_classes} classes (0 to '
                f'{self.num_classes - 1}): set `num_classes` to the data.'
            )
        return label

    def _labels(self, data_samples: DataSample) -> Tensor:
        labels = self.data_sample_to_label(data_samples)
        if labels is None:
            raise PPCDError(
                'The data have no labels, and the model is trained for '
                f'{self.num_classes} classes: take a data set that gives '
                '`gt_label`.'
            )
        return labels

    def train_discriminator(
        self,
        inputs: dict,
        data_samples: DataSample,
        optimizer_wrapper: OptimWrapper,
    ) -> Dict[str, Tensor]:
        """UPDATEDISCRIMINATOR of Procedure 1."""
        labels = self._labels(data_samples)
        noise = self.noise_fn(num_batches=len(labels))
        real_imgs = self.real_images(data_samples, noise, labels)
        disc = partial(self.discriminator, label=labels)
        with torch.no_grad():
            fake_imgs = self.generator(noise, label=labels)
        loss, log_vars = self._get_disc_loss(
            dict(
                disc=disc,
                real_imgs=real_imgs,
                disc_pred_fake=disc(fake_imgs),
                disc_pred_real=disc(real_imgs),
                loss_scaler=getattr(optimizer_wrapper, 'loss_scaler', None),
            )
        )
        optimizer_wrapper.update_params(loss)
        return log_vars

    def train_generator(
        self,
        inputs: dict,
        data_samples: DataSample,
        optimizer_wrapper: OptimWrapper,
    ) -> Dict[str, Tensor]:
        """UPDATEGENERATOR of Procedure 1, on all the losses at once."""
        labels = self._labels(data_samples)
        noise = self.noise_fn(num_batches=len(labels))
        fake_imgs, losses = self.distill(noise, labels)
        if self.pruning_loss is not None:
            generator = (
                self.generator.module
                if is_model_wrapper(self.generator)
                else self.generator
            )
            losses[self.pruning_loss.loss_name()] = self.pruning_loss(
                mask for _, mask in named_masks(generator)
            )
        losses['loss_adv'] = self.gan_loss(
            self.discriminator(fake_imgs, label=labels),
            target_is_real=True,
            is_disc=False,
        )
        loss, log_vars = self.parse_losses(losses)
        optimizer_wrapper.update_params(loss)
        return log_vars

    def real_images(
        self, data_samples: DataSample, noise: Tensor, labels: Tensor
    ) -> Tensor:
        """What the discriminator takes for real (n, 3, h, w): the first of
        them drawn by the teacher, as many as ``teacher_as_real`` says.

        Raises:
            PPCDError: If there is no teacher to draw them, or the part is
                less than one image.
        """
        if not self.teacher_as_real:
            return data_samples.gt_img
        drawn = round(self.teacher_as_real * len(labels))
        if not drawn:
            raise PPCDError(
                f'teacher_as_real={self.teacher_as_real} of a batch of '
                f'{len(labels)} is not one image: raise it, or take larger '
                'batches.'
            )
        if self.teacher is None:
            raise PPCDError(
                f'teacher_as_real={self.teacher_as_real} needs a teacher to '
                'train: set `teacher` in the config.'
            )
        images = self.teacher.images(noise[:drawn], labels[:drawn])
        return torch.cat([images, data_samples.gt_img[drawn:]])

    def distill(
        self, noise: Tensor, labels: Tensor
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        """The student's images and the distillation losses.

        Args:
            noise (Tensor): Shape (n, noise_size).
            labels (Tensor): Shape (n, ).
        """
        if self.teacher is None:
            return self.generator(noise, label=labels), dict()
        with FeatureTap(self.generator, self.distill_layers) as tap:
            fake_imgs = self.generator(noise, label=labels)
        target_imgs, target_features = self.teacher.draw(
            noise, label=self._teacher_labels(labels)
        )
        losses = {}
        distillation_losses: Iterable[Any] = self.distillation_losses
        for loss in distillation_losses:
            sides: Tuple[Any, ...]
            if compared(loss) == 'features':
                sides = self._compared(tap.by_resolution(), target_features)
            elif compared(loss) == 'images':
                sides = fake_imgs, target_imgs
            else:
                sides = tuple(
                    self._discriminator_features(images, labels, loss.layers)
                    for images in (fake_imgs, target_imgs)
                )
            losses[loss.loss_name()] = loss(*sides)
        return fake_imgs, losses

    def _discriminator_features(
        self, images: Tensor, labels: Tensor, layers: Union[str, Sequence[str]]
    ) -> Dict[str, Tensor]:
        discriminator = self._plain_discriminator()
        with FeatureTap(discriminator, layers) as tap:
            discriminator(images, label=labels)
        return tap.features

    def _plain_discriminator(self) -> nn.Module:
        """It without augmentation: of maps drawn for each image alone,
        features of equal images would differ."""
        discriminator = self.discriminator
        if is_model_wrapper(discriminator):
            discriminator = discriminator.module
        if isinstance(discriminator, AugmentedDiscriminator):
            discriminator = discriminator.discriminator
        return discriminator

    def _compared(
        self, student: Dict[int, Tensor], teacher: Dict[int, Tensor]
    ) -> Tuple[dict, dict]:
        """The features of the resolutions that both have; the log says once
        which."""
        student, teacher = common_features(student, teacher)
        if self._logged_sizes != list(student):
            self._logged_sizes = list(student)
            print_log(
                f'distillation compares features of {list(student)} pixels',
                'current',
            )
        return student, teacher

    def _teacher_labels(self, labels: Tensor) -> Tensor:
        if self.class_aware:
            return labels
        shift = torch.randint_like(labels, 1, self.num_classes)
        return (labels + shift) % self.num_classes
