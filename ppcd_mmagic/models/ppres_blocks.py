"""PP-Res: a residual block with a learnable mask after each convolution."""

from typing import Dict, Sequence

import torch.nn as nn
from mmagic.models.editors.biggan.biggan_modules import BigGANGenResBlock
from mmagic.models.editors.sagan.sagan_modules import SNGANGenResBlock

from ppcd_mmagic.channels.masks import hang_mask, hangs_masks, share_mask
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS

RESIDUAL_MASKS = ('independent', 'shared')


def _mask_block(
    block: nn.Module,
    names: Dict[str, str],
    masked_convs: Sequence[str],
    residual_masks: str,
) -> None:
    """Attach the masks of one residual block.

    Args:
        block (nn.Module): Residual block of MMagic.
        names (dict): The block's own names of conv_1, conv_2 and shortcut.
        masked_convs (Sequence[str]): Which of the three get a mask.
        residual_masks (str): 'independent' or 'shared'.
    """
    unknown = set(masked_convs) - set(names)
    if unknown or not masked_convs:
        raise PPCDError(
            f'masked_convs={tuple(masked_convs)} must name one or more of '
            f'{tuple(names)}.'
        )
    if residual_masks not in RESIDUAL_MASKS:
        raise PPCDError(
            f'residual_masks="{residual_masks}" must be one of '
            f'{RESIDUAL_MASKS}.'
        )
    if not hangs_masks():
        return
    masked = {
        key: getattr(block, names[key]).conv
        for key in masked_convs
        if hasattr(block, names[key])
    }
    for conv in masked.values():
        hang_mask(conv)
    if residual_masks == 'shared' and {'conv_2', 'shortcut'} <= set(masked):
        share_mask(masked['conv_2'], masked['shortcut'])


@MODELS.register_module()
class PPResSNGANGenResBlock(SNGANGenResBlock):
    """PP-Res block of SNGAN / SAGAN (PPCD-GAN, Sec. PP-Res; reconstruction).

    It goes into ``blocks_cfg`` of MMagic's ``SAGANGenerator``. Masks reach
    across blocks, so build it through :class:`PPResSAGANGenerator`, or use
    :class:`MaskBinarizationHook`, which links what it finds.

    Args:
        masked_convs (Sequence[str]): Which of 'conv_1', 'conv_2', 'shortcut'
            carry a mask. Defaults to all three.
        residual_masks (str): 'independent': a mask per convolution; a channel
            of the residual stream can be discarded where those of conv_2 and
            shortcut are both pruned. 'shared': one mask for both, so that
            every pruned channel can be. Defaults to 'independent'.

    Raises:
        PPCDError: On an unknown name in either argument.

    Example:
        >>> block = MODELS.build(
        ...     dict(
        ...         type='PPResSNGANGenResBlock', in_channels=8, out_channels=16,
        ...         use_cbn=False, residual_masks='shared',
        ...     )
        ... )
        >>> [name for name, _ in named_masks(block)]
        ['conv_1', 'conv_2']
        >>> block(torch.zeros(1, 8, 4, 4)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        names = dict(conv_1='conv_1', conv_2='conv_2', shortcut='shortcut')
        _mask_block(self, names, masked_convs, residual_masks)


@MODELS.register_module()
class PPResBigGANGenResBlock(BigGANGenResBlock):
    """PP-Res block of BigGAN; arguments as :class:`PPResSNGANGenResBlock`.

    Example:
        >>> block = MODELS.build(
        ...     dict(
        ...         type='PPResBigGANGenResBlock', in_channels=8, out_channels=16,
        ...         dim_after_concat=4,
        ...     )
        ... )
        >>> sorted(name for name, _ in named_masks(block))
        ['conv1', 'conv2', 'shortcut']
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        names = dict(conv_1='conv1', conv_2='conv2', shortcut='shortcut')
        _mask_block(self, names, masked_convs, residual_masks)
