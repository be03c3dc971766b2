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


def _link(generator: nn.Module, masked_linears: Sequence[str]) -> None:
    """Gate the readers of masks that blocks have brought along, and mask
    linear layers."""
    if masked_linears and hangs_masks():
        inputs = example_inputs(generator)
        mask_channels(generator, inputs, convs=(), linears=masked_linears)
    elif any(True for _ in named_masks(generator)):
        link_masks(generator, example_inputs(generator))


@MODELS.register_module()
class PPResSAGANGenerator(SNGANGenerator):
    """MMagic's SNGAN/SAGAN generator made of PP-Res blocks (the student).

    At 128 px, 1000 classes, base 64, noise 128 and self-attention after block
    4 it has 42,017,412 parameters beside the masks.

    Args:
        masked_convs (Sequence[str]): See :class:`PPResSNGANGenResBlock`.
        residual_masks (str): See :class:`PPResSNGANGenResBlock`.
        masked_linears (Sequence[str]): Linear layers to mask as well,
            ``['noise2feat']`` for the one that makes the first map of the
            noise, with a score for each channel of that map. It holds up to
            half of a small generator's parameters. Defaults to none, as in the
            paper.

    All other arguments are those of MMagic's ``SAGANGenerator``. Called with
    noise (n, noise_size) and label (n, ), it returns images (n, 3, h, w) in
    [-1, 1].

    Example:
        >>> student = MODELS.build(
        ...     dict(
        ...         type='PPResSAGANGenerator', output_scale=32, noise_size=8,
        ...         num_classes=3, base_channels=8,
        ...     )
        ... )
        >>> student(torch.randn(2, 8), label=torch.tensor([0, 2])).shape
        torch.Size([2, 3, 32, 32])
        >>> len(list(named_masks(student)))
        9
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        masked_linears: Sequence[str] = (),
        **kwargs,
    ) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResSNGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks,
        )
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        _link(self, masked_linears)


@MODELS.register_module()
class PPResBigGANGenerator(BigGANGenerator):
    """MMagic's BigGAN generator made of PP-Res blocks.

    Arguments as :class:`PPResSAGANGenerator`, the others those of MMagic's
    ``BigGANGenerator``, whose linear layers also make gains and biases of
    norms of the class.

    Example:
        >>> student = MODELS.build(
        ...     dict(
        ...         type='PPResBigGANGenerator', output_scale=32, noise_size=8,
        ...         num_classes=3, base_channels=4,
        ...     )
        ... )
        >>> student(torch.randn(2, 8), label=torch.tensor([0, 2])).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        *args,
        masked_convs: Sequence[str] = ('conv_1', 'conv_2', 'shortcut'),
        residual_masks: str = 'independent',
        masked_linears: Sequence[str] = (),
        **kwargs,
    ) -> None:
        blocks_cfg = dict(
            type='ppcd_mmagic.PPResBigGANGenResBlock',
            masked_convs=masked_convs,
            residual_masks=residual_masks,
        )
        super().__init__(*args, blocks_cfg=blocks_cfg, **kwargs)
        _link(self, masked_linears)


@MODELS.register_module(name='MaskedGenerator')
def masked_generator(
    generator: dict,
    convs: Union[str, Sequence[str]] = '*',
    exclude: Union[str, Sequence[str]] = (),
    tie: bool = False,
    linears: Union[str, Sequence[str]] = (),
    input_shape: Optional[Sequence[int]] = None,
    **defaults,
) -> nn.Module:
    """Build any registered generator and mask its layers by name.

    Registered as ``MaskedGenerator``. The log says what was masked, what can
    leave, and why not the rest.

    Args:
        generator (dict): Config of the generator.
        convs, exclude, tie, linears: See
            :func:`ppcd_mmagic.channels.mask_channels`.
        input_shape (Sequence[int], optional): Shape of one input without the
            batch, (c, h, w) of images; a small one will do. Not needed where
            noise goes in.
        **defaults: Passed to the generator unless its config sets them.

    Returns:
        nn.Module: The generator itself, with masks attached and linked.

    Raises:
        PPCDError: If a pattern matches no layer, nothing could ever be
            discarded, or the generator cannot be recorded.

    Example:
        >>> generator = MODELS.build(
        ...     dict(
        ...         type='MaskedGenerator',
        ...         generator=dict(
        ...             type='SAGANGenerator', output_scale=32, noise_size=8,
        ...             num_classes=3, base_channels=8,
        ...         ),
        ...         convs=['conv_blocks.*.conv_1'],
        ...     )
        ... )
        >>> [name for name, _ in named_masks(generator)]
        ['conv_blocks.0.conv_1', 'conv_blocks.1.conv_1', 'conv_blocks.2.conv_1']
    """
    built = MODELS.build(generator, default_args=defaults)
    if input_shape is not None:
        built.input_shape = tuple(input_shape)
    if not hangs_masks():
        return built
    channels = mask_channels(
        built, example_inputs(built), convs, exclude, tie, linears
    )
    print_log(str(channels), 'current')
    return built
