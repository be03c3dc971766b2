"""Generators of MMagic, torchvision and diffusers, small, with inputs."""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch
import torchvision
from channel_checks import as_trained
from torch.utils._pytree import tree_map

from ppcd_mmagic.registry import MODELS


class Generator(NamedTuple):
    """
    Attributes:
        build (dict | Callable): Config of MMagic, or what makes the module.
        inputs (Callable): Makes example inputs, two of a batch.
        left (tuple): Percent of the parameters left where half of the
            channels are pruned, with tied and with independent masks; None
            where nothing can leave. Found by a first implementation, which
            shares no code with this one and pruned by other scores (and took
            35 for SRResNet, 52 and 73 for DDPM, of fewer tied channels).
        why (str): Of those, part of the refusal.
    """

    build: Any
    inputs: Callable
    left: Optional[Tuple[int, int]] = None
    why: str = ''


def noise(size=16, **more):
    return lambda: (torch.randn(2, size), more)


def image(size=32, channels=3):
    return lambda: (torch.randn(2, channels, size, size),)


def steps():
    return torch.randn(2, 3, 16, 16), torch.tensor([1, 2])


def unet2d():
    from diffusers import UNet2DModel

    return UNet2DModel(
        16,
        3,
        3,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
        up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
        attention_head_dim=8,
    )


def config(type, **arguments):
    return dict(type=type, **arguments)


INIT = dict(type='normal', gain=0.02)
SR = dict(in_channels=3, out_channels=3, mid_channels=8)
RRDB = dict(SR, num_blocks=1, growth_channels=4)
SNGAN = dict(
    output_scale=32,
    num_classes=5,
    base_channels=16,
    noise_size=16,
    auto_sync_bn=False,
)
BIGGAN = dict(
    output_scale=32,
    noise_size=16,
    num_classes=5,
    base_channels=8,
    shared_dim=8,
    auto_sync_bn=False,
)
STYLE = dict(out_size=16, style_channels=16, num_mlps=2)
LABEL = dict(label=torch.tensor([1, 2]))


def cycle_gan(norm):
    return config(
        'ResnetGenerator',
        in_channels=3,
        out_channels=3,
        base_channels=8,
        norm_cfg=dict(type=norm),
        use_dropout=False,
        num_blocks=2,
        padding_mode='reflect',
        init_cfg=INIT,
    )


ZOO = {
    'DCGAN': Generator(
        config(
            'DCGANGenerator', output_scale=32, noise_size=16, base_channels=32
        ),
        noise(),
        (30, 37),
    ),
    'LSGAN': Generator(
        config(
            'LSGANGenerator', output_scale=32, noise_size=16, base_channels=16
        ),
        noise(),
        (94, 96),
    ),
    'WGAN-GP': Generator(
        config('WGANGPGenerator', noise_size=16, out_scale=16),
        noise(),
        (32, 33),
    ),
    'pix2pix': Generator(
        config(
            'UnetGenerator',
            in_channels=3,
            out_channels=3,
            num_down=5,
            base_channels=8,
            norm_cfg=dict(type='BN'),
            use_dropout=True,
            init_cfg=INIT,
        ),
        image(),
        (22, 25),
    ),
    'CycleGAN (IN)': Generator(cycle_gan('IN'), image(), (23, 43)),
    'CycleGAN (BN)': Generator(cycle_gan('BN'), image(), (23, 44)),
    'EDSR': Generator(
        config('EDSRNet', num_blocks=2, upscale_factor=2, **SR),
        image(),
        (25, 55),
    ),
    'SRResNet': Generator(
        config('MSRResNet', num_blocks=2, upscale_factor=4, **SR),
        image(16),
        (27, 60),
    ),
    'RDN': Generator(
        config(
            'RDNNet',
            num_blocks=2,
            upscale_factor=2,
            num_layers=2,
            channel_growth=8,
            **SR,
        ),
        image(16),
        (21, 55),
    ),
    'RRDB x4': Generator(config('RRDBNet', **RRDB), image(16), (20, 53)),
    'RRDB x2': Generator(
        config('RRDBNet', upscale_factor=2, **RRDB), image(16), (21, 55)
    ),
    'SRCNN': Generator(config('SRCNNNet'), image(8), (45, 48)),
    'NAFNet': Generator(
        config(
            'NAFNet',
            img_channels=3,
            mid_channels=8,
            enc_blk_nums=[1, 1],
            middle_blk_num=1,
            dec_blk_nums=[1, 1],
        ),
        image(),
        (68, 88),
    ),
    'SNGAN': Generator(
        config('SNGANGenerator', **SNGAN), noise(**LABEL), (45, 56)
    ),
    'SAGAN': Generator(
        config(
            'SNGANGenerator',
            attention_after_nth_block=2,
            with_spectral_norm=True,
            **SNGAN,
        ),
        noise(**LABEL),
        (47, 56),
    ),
    'SNGAN, no classes': Generator(
        config('SNGANGenerator', use_cbn=False, **dict(SNGAN, num_classes=0)),
        noise(),
        (44, 55),
    ),
    'BigGAN': Generator(
        config('BigGANGenerator', sn_style='torch', **BIGGAN),
        noise(**LABEL),
        (30, 45),
    ),
    'BigGAN, attention': Generator(
        config(
            'BigGANGenerator',
            sn_style='ajbrock',
            **dict(BIGGAN, output_scale=64, noise_size=20),
        ),
        noise(20, **LABEL),
        (34, 46),
    ),
    'BigGAN-deep': Generator(
        config(
            'BigGANDeepGenerator',
            block_depth=2,
            sn_style='torch',
            **dict(BIGGAN, base_channels=32),
        ),
        noise(**LABEL),
        (56, 57),
    ),
    'DDPM': Generator(
        config(
            'DenoisingUnet',
            image_size=16,
            in_channels=3,
            base_channels=32,
            resblocks_per_downsample=1,
            attention_res=[8],
            channels_cfg=[1, 2],
        ),
        steps,
        (32, 76),
    ),
    'resnet18': Generator(
        lambda: torchvision.models.resnet18(num_classes=5), image(), (26, 44)
    ),
    'densenet': Generator(
        lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5),
        image(),
        (25, 30),
    ),
    'PGGAN': Generator(
        config(
            'PGGANGenerator',
            noise_size=16,
            out_scale=16,
            base_channels=64,
            max_channels=16,
        ),
        noise(transition_weight=1.0),
        why='over all channels',
    ),
    'StyleGAN1': Generator(
        config('StyleGAN1Generator', **STYLE), noise(), why='StyleGAN1'
    ),
    'StyleGAN2': Generator(
        config('StyleGAN2Generator', **STYLE),
        noise(randomize_noise=False),
        why='StyleGAN2',
    ),
    'UNet2D': Generator(
        unet2d, lambda: (*steps(), dict(return_dict=False)), why='UNet2D'
    ),
}
PRUNABLE = [name for name, entry in ZOO.items() if entry.left]
REFUSED = [name for name, entry in ZOO.items() if not entry.left]


def build(name: str):
    """A generator as after some training, and inputs of it, in double
    precision: what is left of a difference is none."""
    entry = ZOO[name]
    torch.manual_seed(0)
    module = (
        entry.build()
        if callable(entry.build)
        else MODELS.build(dict(entry.build))
    )
    inputs = entry.inputs()
    # DDPM and StyleGAN make numbers of single precision themselves
    if entry.left and name != 'DDPM':
        module.double()
        inputs = tree_map(
            lambda value: (
                value.double()
                if torch.is_tensor(value) and value.is_floating_point()
                else value
            ),
            inputs,
        )
    args = inputs[:-1] if isinstance(inputs[-1], dict) else inputs
    kwargs = inputs[-1] if isinstance(inputs[-1], dict) else {}
    as_trained(module)
    if any('u0' in key or 'weight_u' in key for key in module.state_dict()):
        statistics = {
            key: value.clone()
            for key, value in module.state_dict().items()
            if 'running' in key
        }
        module.train()
        with torch.no_grad():
            for _ in range(8):  # its first guess may be near zero
                module(*args, **kwargs)
        module.load_state_dict(statistics, strict=False)
    return module.eval(), inputs
