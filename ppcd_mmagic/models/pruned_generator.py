import inspect
from typing import Dict, Sequence

import torch
import torch.nn as nn

from ppcd_mmagic.compat import is_compiling
from ppcd_mmagic.layers import resize_layers
from ppcd_mmagic.registry import MODELS
from .chunked_attention import chunk_attention


@MODELS.register_module()
def PrunedGenerator(generator: dict, layer_sizes: Dict[str, Sequence[int]],
                    **defaults) -> nn.Module:
    """Build a generator of MMagic with layers narrower than its config says.

    What ``tools/export.py`` writes. The result is an instance of MMagic's own
    generator; nothing of pruning is left in it but the widths. Self-attention
    is computed in chunks (:class:`ChunkedSelfAttentionBlock`): its map cannot
    be pruned, and would take a third of the time. Called with a label outside
    [0, num_classes) it raises a ValueError.

    Args:
        generator (dict): Config of the dense generator.
        layer_sizes (dict): Sizes by layer name, (outputs, inputs) of
            convolutions and linear layers, (outputs, ) of embeddings and
            norms. Layers not named keep theirs.
        **defaults: Passed to the generator unless its config sets them.

    Raises:
        ValueError: If a layer does not exist or is smaller than its size.
    """
    built = MODELS.build(generator, default_args=defaults)
    chunk_attention(built)
    resize_layers(built, layer_sizes)
    built.register_forward_pre_hook(refuse_unknown_labels, with_kwargs=True)
    return built


def refuse_unknown_labels(generator: nn.Module, args: tuple,
                          kwargs: dict) -> None:
    """Forward pre-hook of a generator. An embedding by itself says only that
    an index is out of range, and on a GPU it ends the process.

    Raises:
        ValueError: If a label is outside [0, num_classes).
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
        raise ValueError(
            f'Labels from {int(label.min())} to {int(label.max())} are out of '
            f'range: this generator knows classes 0 to '
            f'{generator.num_classes - 1}.')
