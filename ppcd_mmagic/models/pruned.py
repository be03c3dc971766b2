import inspect
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ppcd_mmagic.channels import (
    fold_computed_weights,
    narrow_to_state,
    resize_layers,
    without_masks,
)
from ppcd_mmagic.compat import is_compiling
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS
from .chunked_attention import chunk_attention
from .memory_layout import LayoutFollower
from .upsampling_conv import merge_upsampling


@MODELS.register_module(name='PrunedGenerator')
def pruned_generator(
    generator: dict,
    layer_sizes: Dict[str, Tuple[int, ...]],
    input_shape: Optional[Sequence[int]] = None,
    narrow_to_weights: bool = False,
    **defaults,
) -> nn.Module:
    """Build a generator with layers narrower than its config says.

    Registered as ``PrunedGenerator``; what ``tools/export.py`` writes. The
    generator is built as its own config says, but without masks, and computed
    weights (spectral norm) become plain ones: nothing of pruning is left in it
    but the widths. Self-attention is computed in chunks
    (:class:`ChunkedSelfAttentionBlock`): its map cannot be pruned, and would
    take more than half of the time. Convolutions of enlarged maps compute
    before they enlarge (:class:`UpsamplingConv2d`). Weights of 2-D
    convolutions are laid out as is fastest where they are
    (:class:`LayoutFollower`). Called with a label outside [0, num_classes) it
    raises a PPCDError.

    Args:
        generator (dict): Config of the dense generator, with or without masks.
        layer_sizes (dict): Sizes by layer name, (outputs, inputs) of
            convolutions and linear layers, (outputs, ) of embeddings and
            norms. Layers not named keep theirs.
        input_shape (Sequence[int], optional): See ``MaskedGenerator``.
        narrow_to_weights (bool): Whether layers that are narrower still in
            the weights that are loaded become so. For models that build
            several generators from one config. Defaults to False.
        **defaults: Passed to the generator unless its config sets them.

    Returns:
        nn.Module: Of the class that the config of the generator names.

    Raises:
        PPCDError: If a layer does not exist or is smaller than its size.

    Example:
        >>> generator = MODELS.build(
        ...     dict(
        ...         type='PrunedGenerator',
        ...         generator=dict(
        ...             type='SAGANGenerator', output_scale=32, noise_size=8,
        ...             num_classes=3, base_channels=8,
        ...         ),
        ...         layer_sizes={
        ...             'conv_blocks.0.conv_1.conv': (5, 8),
        ...             'conv_blocks.0.conv_2.conv': (8, 5),
        ...         },
        ...     )
        ... )
    """
    with without_masks():
        built = MODELS.build(generator, default_args=defaults)
    if input_shape is not None:
        built.input_shape = tuple(input_shape)
    fold_computed_weights(built)
    chunk_attention(built)
    merge_upsampling(built)
    resize_layers(built, layer_sizes)
    if narrow_to_weights:
        built._register_load_state_dict_pre_hook(_narrow, with_module=True)
    built.register_forward_pre_hook(refuse_unknown_labels, with_kwargs=True)
    LayoutFollower().follow(built)
    return built


def _narrow(
    generator: nn.Module, state: Dict[str, Tensor], prefix: str, *args
) -> None:
    """Pre-hook of loading."""
    narrow_to_state(
        generator,
        {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        },
    )


def refuse_unknown_labels(generator: Any, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of a generator. An embedding by itself says only that
    an index is out of range, and on a GPU it ends the process.

    Raises:
        PPCDError: If a label is outside [0, num_classes).
    """
    if is_compiling():  # a compiled graph cannot ask values
        return
    call = inspect.signature(generator.forward).bind_partial(*args, **kwargs)
    label = call.arguments.get('label')
    # BigGAN takes embeddings of its own as well, which are no indices
    if not isinstance(label, torch.Tensor) or label.is_floating_point():
        return
    if label.numel() and (
        label.min() < 0 or label.max() >= generator.num_classes
    ):
        raise PPCDError(
            f'Labels from {int(label.min())} to {int(label.max())} are out of '
            f'range: this generator knows classes 0 to '
            f'{generator.num_classes - 1}.'
        )
