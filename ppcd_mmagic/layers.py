"""Changing the widths of single layers."""
from typing import Dict, Optional, Tuple

import torch
import torch.nn as nn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor


def keep_channels(layer: nn.Module,
                  outputs: Optional[Tensor] = None,
                  inputs: Optional[Tensor] = None) -> None:
    """Keep the given output and input channels of a layer, in place.

    Args:
        layer (nn.Module): Convolution, linear layer, embedding (columns are
            its outputs, rows always stay) or batch norm (outputs only).
        outputs (Tensor, optional): Indices of the outputs to keep.
        inputs (Tensor, optional): Indices of the inputs to keep.
    """
    out_dim, in_dim = (1, 0) if isinstance(layer, nn.Embedding) else (0, 1)
    for dim, kept in ((out_dim, outputs), (in_dim, inputs)):
        if kept is not None and getattr(layer, 'weight', None) is not None:
            _replace(layer, 'weight', layer.weight.index_select(dim, kept))
    if outputs is not None:
        for name in ('bias', 'running_mean', 'running_var'):
            value = getattr(layer, name, None)
            if value is not None:
                _replace(layer, name, value.index_select(0, outputs))
    _update_sizes(layer)


def _replace(layer: nn.Module, name: str, value: Tensor) -> None:
    old = getattr(layer, name)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value.detach().clone(), old.requires_grad)
    setattr(layer, name, value)


def _update_sizes(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Embedding):
        layer.embedding_dim = layer.weight.shape[1]
    else:
        layer.num_features = len(layer.running_mean)


def layer_sizes(model: nn.Module) -> Dict[str, Tuple[int, ...]]:
    """Sizes of all layers that can be narrowed, by name: (outputs, inputs)
    of convolutions and linear layers, (outputs, ) of the others."""
    sizes = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            sizes[name] = tuple(layer.weight.shape[:2])
        elif isinstance(layer, nn.Embedding):
            sizes[name] = (layer.embedding_dim, )
        elif isinstance(layer, _BatchNorm):
            sizes[name] = (layer.num_features, )
    return sizes


def resize_layers(model: nn.Module, sizes: Dict[str, Tuple[int,
                                                           ...]]) -> None:
    """Give layers the sizes of :func:`layer_sizes`; the values kept are
    meaningless, weights are to be loaded afterwards.

    Raises:
        ValueError: If a layer does not exist or is smaller than its size.
    """
    present = layer_sizes(model)
    for name, size in sizes.items():
        if name not in present or any(
                new > old for new, old in zip(size, present[name])):
            raise ValueError(
                f'Layer "{name}" of size {tuple(size)} does not fit '
                f'{type(model).__name__}, which has '
                f'{present.get(name, "no such layer")}.')
        layer = model.get_submodule(name)
        device = next(model.parameters()).device
        indices = [torch.arange(n, device=device) for n in size]
        keep_channels(layer, *indices)
