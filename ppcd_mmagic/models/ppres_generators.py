"""MMagic's generators with PP-Res blocks, and masks on any other generator."""
from typing import Sequence

import torch.nn as nn
from mmagic.models.editors.biggan import BigGANGenerator
from mmagic.models.editors.sagan import SNGANGenerator

from ppcd_mmagic.masks import attach_masks, link_readers
from ppcd_mmagic.registry import MODELS


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

    def __init__(self,
                 *args,
                 masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
                 residual_masks: str = 'independent',
                 **kwargs) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResSNGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks)
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        link_readers(self)


@MODELS.register_module()
class PPResBigGANGenerator(BigGANGenerator):
    """MMagic's BigGAN generator made of PP-Res blocks.

    Arguments as :class:`PPResSAGANGenerator`, the others those of MMagic's
    ``BigGANGenerator``.
    """

    def __init__(self,
                 *args,
                 masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
                 residual_masks: str = 'independent',
                 **kwargs) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResBigGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks)
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        link_readers(self)


@MODELS.register_module()
def MaskedGenerator(generator: dict, convs: Sequence[str],
                    **defaults) -> nn.Module:
    """Build any registered generator and mask its convolutions by name.

    Args:
        generator (dict): Config of the generator.
        convs (Sequence[str]): Names or ``fnmatch`` patterns of convolutions,
            such as ``['conv_blocks.*.conv_1']``.
        **defaults: Passed to the generator unless its config sets them.

    Returns:
        nn.Module: The generator itself, with masks attached and linked.

    Raises:
        ValueError: If a pattern matches no convolution, or the generator's
            forward function cannot be traced.
    """
    built = MODELS.build(generator, default_args=defaults)
    attach_masks(built, convs)
    link_readers(built)
    return built
