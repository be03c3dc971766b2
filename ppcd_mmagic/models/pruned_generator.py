import inspect
from typing import Dict, Optional, Sequence

import torch
import torch.nn as nn

from ppcd_mmagic.channels import (fold_computed_weights, resize_layers,
                                  without_masks)
from ppcd_mmagic.compat import is_compiling
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import MODELS
from .chunked_attention import chunk_attention


@MODELS.register_module(name='PrunedGenerator')
def pruned_generator(generator: dict,
                     layer_sizes: Dict[str, Sequence[int]],
                     input_shape: Optional[Sequence[int]] = None,
                     **defaults) -> nn.Module:
    """Build a generator with layers narrower than its config says.

    Registered as ``PrunedGenerator``; what ``tools/export.py`` writes. The
    generator is built as its own config says, but without masks, and computed
    weights (spectral norm) become plain ones: nothing of pruning is left in
    it but the widths. Self-attention is computed in chunks
    (:class:`ChunkedSelfAttentionBlock`): its map cannot be pruned, and would
    take a third of the time. Called with a label outside [0, num_classes) it
    raises a PPCDError.

    Args:
        generator (dict): Config of the dense generator, with or without masks.
        layer_sizes (dict): Sizes by layer name, (outputs, inputs) of
            convolutions and linear layers, (outputs, ) of embeddings and
            norms. Layers not named keep theirs.
        input_shape (Sequence[int], optional): See ``MaskedGenerator``.
        **defaults: Passed to the generator unless its config sets them.

    Returns:
        nn.Module: Of the class that the config of the generator names.

    Raises:
        PPCDError: If a layer does not exist or is smaller than its size.
    """
    with without_masks():
        built = MODELS.build(generator, default_args=defaults)
    if input_shape is not None:
        built.input_shape = tuple(input_shape)
    fold_computed_weights(built)
    chunk_attention(built)
    resize_layers(built, layer_sizes)
    built.register_forward_pre_hook(refuse_unknown_labels, with_kwargs=True)
    return built


def refuse_unknown_labels(generator: nn.Module, args: tuple,
                          kwargs: dict) -> None:
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
    if label.numel() and (label.min() < 0
                          or label.max() >= generator.num_classes):
        raise PPCDError(
            f'Labels from {int(label.min())} to {int(label.max())} are out of '
            f'range: this generator knows classes 0 to '
            f'{generator.num_classes - 1}.')
