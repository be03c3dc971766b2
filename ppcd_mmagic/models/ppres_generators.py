"""MMagic's generators with PP-Res blocks, and masks on any other generator."""

from typing import Optional, Sequence, Union

import torch.nn as nn
from mmagic.models.editors.biggan import BigGANGenerator
from mmagic.models.editors.sagan import SNGANGenerator
from mmengine.logging import print_log

from ppcd_mmagic.channels import link_masks, mask_channels, named_masks
from ppcd_mmagic.channels.masks import hangs_masks
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS


def _link(generator: nn.Module) -> None:
    """Gate the readers of masks that blocks have brought along."""
    if any(True for _ in named_masks(generator)):
        link_masks(generator, example_inputs(generator))


@MODELS.register_module()
class PPResSAGANGenerator(SNGANGenerator):
    """MMagic's SNGAN/SAGAN generator made of PP-Res blocks (the student).

    At 128 px, 1000 classes, base 64, noise 128 and self-attention after block
    4 it has 42,017,412 parameters beside the masks.

    Args:
        masked_convs (Sequence[str]): See :class:`PPResSNGANGenResBlock`.
        residual_masks (str): See :class:`PPResSNGANGenResBlock`.

    All other arguments are those of MMagic's ``SAGANGenerator``. Called with
    noise (n, noise_size) and label (n, ), it returns images (n, 3, h, w) in
    [-1, 1].
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        **kwargs,
    ) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResSNGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks,
        )
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        _link(self)


@MODELS.register_module()
class PPResBigGANGenerator(BigGANGenerator):
    """MMagic's BigGAN generator made of PP-Res blocks.

    Arguments as :class:`PPResSAGANGenerator`, the others those of MMagic's
    ``BigGANGenerator``.
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        **kwargs,
    ) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResBigGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks,
        )
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        _link(self)


@MODELS.register_module(name='MaskedGenerator')
def masked_generator(
    generator: dict,
    convs: Union[str, Sequence[str]] = '*',
    exclude: Union[str, Sequence[str]] = (),
    tie: bool = False,
    input_shape: Optional[Sequence[int]] = None,
    **defaults,
) -> nn.Module:
    """Build any registered generator and mask its convolutions by name.

    Registered as ``MaskedGenerator``. The log says what was masked, what can
    leave, and why not the rest.

    Args:
        generator (dict): Config of the generator.
        convs, exclude, tie: See :func:`ppcd_mmagic.channels.mask_channels`.
        input_shape (Sequence[int], optional): Shape of one input without the
            batch, (c, h, w) of images; a small one will do. Not needed where
            noise goes in.
        **defaults: Passed to the generator unless its config sets them.

    Returns:
        nn.Module: The generator itself, with masks attached and linked.

    Raises:
        PPCDError: If a pattern matches no convolution, nothing could ever be
            discarded, or the generator cannot be recorded.
    """
    built = MODELS.build(generator, default_args=defaults)
    if input_shape is not None:
        built.input_shape = tuple(input_shape)
    if not hangs_masks():
        return built
    channels = mask_channels(built, example_inputs(built), convs, exclude, tie)
    print_log(str(channels), 'current')
    return built
