"""What is measured: teacher, dense student, masked student, export."""

from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn as nn
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict

from ppcd_mmagic.channels import (
    discard_channels,
    fold_computed_weights,
    layer_sizes,
    link_masks,
    named_masks,
)
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS

# rows of the tables, as the results name them
OURS = 'ppcd_mmagic'
MULTIPLES = f'{OURS}, multiples of 16'
ALIKE = 'dense, computed alike'


class Scale(NamedTuple):
    """Size of everything in one run of the benchmarks."""

    resolution: int
    student: int  # base channels
    teacher: int
    classes: int
    attention: int  # after which block
    noise: int = 120
    batch: int = 8  # of a training step


# as configs/ppcd_biggan_128_alpha06.py has it
FULL = Scale(
    resolution=128, student=64, teacher=96, classes=1000, attention=4, batch=32
)
MODERATE = Scale(
    resolution=64, student=32, teacher=32, classes=100, attention=3
)
SMALL = Scale(resolution=64, student=16, teacher=16, classes=20, attention=3)


def generator_cfg(scale: Scale, type: str, **changes) -> dict:
    common = dict(
        type=type,
        output_scale=scale.resolution,
        noise_size=scale.noise,
        num_classes=scale.classes,
        auto_sync_bn=False,
    )
    if 'BigGAN' in type:
        return dict(
            common,
            base_channels=scale.teacher,
            init_cfg=dict(type='N02'),
            **changes,
        )
    return dict(
        common,
        base_channels=scale.student,
        attention_after_nth_block=scale.attention,
        with_spectral_norm=True,
        with_embedding_spectral_norm=False,
        **changes,
    )


def settle(generator: nn.Module) -> nn.Module:
    """Spectral norm's first guess of sigma is random."""
    generator.train()
    with torch.no_grad():
        for _ in range(3):
            noise, label = inputs(generator, 2)
            generator(noise, label=label)
    return generator


def inputs(generator: nn.Module, batch: int) -> tuple:
    device = next(generator.parameters()).device
    return (
        torch.randn(batch, generator.noise_size, device=device),
        torch.randint(generator.num_classes, (batch,), device=device),
    )


def prune(generator: nn.Module, alpha: float, multiple_of: int = 1) -> None:
    """As many channels as alpha says, and less where widths are to be
    multiples."""
    torch.manual_seed(0)
    for _, mask in named_masks(generator):
        nn.init.uniform_(mask.weight)
        kept = mask.channels - int(alpha * mask.channels)
        kept = -(-kept // multiple_of) * multiple_of
        mask.prune(max(0, mask.channels - kept))


def masked_student(
    scale: Scale, alpha: float, multiple_of: int = 1
) -> nn.Module:
    student = MODELS.build(
        generator_cfg(scale, 'PPResSAGANGenerator', residual_masks='shared')
    )
    settle(student)
    prune(student, alpha, multiple_of)
    return student


def without_spectral_norm(student: nn.Module) -> nn.Module:
    """A copy with the weights that inference uses and its masks."""
    copy = deepcopy(student).eval()
    fold_computed_weights(copy)
    link_masks(copy, example_inputs(copy))
    return copy


def dense(scale: Scale) -> nn.Module:
    """The dense student as it is when training is over."""
    plain = settle(MODELS.build(generator_cfg(scale, 'SAGANGenerator'))).eval()
    fold_computed_weights(plain)
    return plain


def computed_alike(scale: Scale) -> nn.Module:
    """The dense student, computed as exports are: in chunks, before maps are
    enlarged, in the same layout."""
    generator = MODELS.build(
        dict(
            type='PrunedGenerator',
            generator=generator_cfg(scale, 'SAGANGenerator'),
            layer_sizes={},
        )
    ).eval()
    generator.load_state_dict(dense(scale).state_dict())
    return generator.requires_grad_(False)


def export(scale: Scale, student: nn.Module) -> nn.Module:
    """What the export of a student builds."""
    slim = discard_channels(student, example_inputs(student))
    exported = MODELS.build(
        dict(
            type='PrunedGenerator',
            generator=generator_cfg(scale, 'SAGANGenerator'),
            layer_sizes=layer_sizes(slim),
        )
    ).eval()
    exported.load_state_dict(slim.state_dict())
    return exported.requires_grad_(False)


def teacher(scale: Scale) -> nn.Module:
    return MODELS.build(
        generator_cfg(scale, 'BigGANGenerator', with_spectral_norm=False)
    ).eval()


class Trainer:
    """A GAN with its optimizers; called, it takes one training step."""

    def __init__(
        self,
        scale: Scale,
        device: str,
        generator: dict,
        discriminator: dict = {},
        **model,
    ) -> None:
        self.model = (
            MODELS.build(
                dict(
                    type='PPCDGAN',
                    num_classes=scale.classes,
                    noise_size=scale.noise,
                    data_preprocessor=dict(type='DataPreprocessor'),
                    generator=generator,
                    discriminator=dict(
                        type='ProjDiscriminator',
                        input_scale=scale.resolution,
                        num_classes=scale.classes,
                        base_channels=scale.student,
                        with_spectral_norm=True,
                        **discriminator,
                    ),
                    **model,
                )
            )
            .to(device)
            .train()
        )
        self.optim_wrapper = OptimWrapperDict(
            **{
                name: OptimWrapper(
                    torch.optim.Adam(
                        getattr(self.model, name).parameters(),
                        lr=1e-4,
                        betas=(0.0, 0.999),
                    )
                )
                for name in ('generator', 'discriminator')
            }
        )
        samples = []
        for _ in range(scale.batch):
            sample = DataSample(
                gt_img=torch.randint(0, 255, (3,) + (scale.resolution,) * 2)
            )
            sample.set_gt_label(int(torch.randint(scale.classes, ())))
            samples.append(sample)
        self.data = dict(
            inputs=[s.gt_img for s in samples], data_samples=samples
        )

    def __call__(self) -> None:
        MessageHub.get_current_instance().update_info('iter', 0)
        self.model.train_step(
            dict(self.data, data_samples=list(self.data['data_samples'])),
            self.optim_wrapper,
        )
