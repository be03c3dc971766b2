"""Changing the widths of single layers."""
from typing import Callable, Dict, Mapping, Optional, Tuple

import torch
import torch.nn as nn
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor
from torch.optim import Optimizer

# Layers that have widths; spectral norm of either style may be on them.
LAYERS = (nn.Conv2d, nn.Linear, nn.Embedding, _BatchNorm)


def convolutions(model: nn.Module) -> Dict[str, nn.Conv2d]:
    """Convolutions by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def keep_channels(layer: nn.Module,
                  outputs: Optional[Tensor] = None,
                  inputs: Optional[Tensor] = None,
                  optimizer: Optional[Optimizer] = None) -> None:
    """Keep the given output and input channels of a layer, in place.

    The singular vectors of spectral norm are cut alike.

    Args:
        layer (nn.Module): Convolution, linear layer, embedding (columns are
            its outputs, rows always stay) or batch norm (outputs only).
        outputs (Tensor, optional): Indices of the outputs to keep.
        inputs (Tensor, optional): Indices of the inputs to keep.
        optimizer (Optimizer, optional): Follows, with its state.
    """
    for side, kept in dict(outputs=outputs, inputs=inputs).items():
        if kept is None:
            continue
        channels = _width(layer, side)
        for name, dim in _dims(layer)[side].items():
            replace(
                layer, name,
                lambda value: _select(value, dim, kept, channels), optimizer)
    if hasattr(layer, 'weight_orig'):  # spectral norm computes into this
        layer.weight = layer.weight_orig.detach()
    _update_sizes(layer)


def replace(module: nn.Module,
            name: str,
            change: Callable[[Tensor], Tensor],
            optimizer: Optional[Optimizer] = None) -> None:
    """Change a parameter or buffer, and what an optimizer keeps for it.

    A new parameter takes the place of the old one: autograd remembers the
    shape of a parameter for as long as any graph does.
    """
    old = getattr(module, name)
    if not isinstance(old, nn.Parameter):
        setattr(module, name, change(old))
        return
    new = nn.Parameter(change(old.detach()).clone(), old.requires_grad)
    setattr(module, name, new)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group['params'] = [new if p is old else p for p in group['params']]
    if old in optimizer.state:
        optimizer.state[new] = {
            key: change(value) if _like(value, old) else value
            for key, value in optimizer.state.pop(old).items()
        }


def _like(value, parameter: nn.Parameter) -> bool:
    return torch.is_tensor(value) and value.shape == parameter.shape


def zero_channels(layer: nn.Module, side: str, dead: Tensor,
                  optimizer: Optional[Optimizer]) -> None:
    """Set the weights of the given channels to zero, and what an optimizer
    keeps for them, so that they stay there."""
    for name, dim in _dims(layer)[side].items():
        value = getattr(layer, name)
        if not isinstance(value, nn.Parameter):
            continue
        value.data.index_fill_(dim, dead, 0)
        state = optimizer.state.get(value, {}) if optimizer else {}
        for kept in state.values():
            if _like(kept, value):
                kept.index_fill_(dim, dead, 0)


def _dims(layer: nn.Module) -> Dict[str, Dict[str, int]]:
    """By side, the tensors of a layer that have its channels, and where."""
    if isinstance(layer, nn.Embedding):
        outputs, inputs = dict(weight=1, weight_v=0), {}
    elif isinstance(layer, _BatchNorm):
        names = ('weight', 'bias', 'running_mean', 'running_var')
        outputs, inputs = dict.fromkeys(names, 0), {}
    else:  # weight_u and weight_v are torch's spectral norm, u0 is ajbrock's
        outputs = dict(weight=0, bias=0, weight_u=0, u0=1)
        inputs = dict(weight=1, weight_v=0)
    if hasattr(layer, 'weight_orig'):
        for dims in (outputs, inputs):
            if dims:
                dims['weight_orig'] = dims.pop('weight')
    return {
        side: {
            name: dim
            for name, dim in dims.items()
            if getattr(layer, name, None) is not None
        }
        for side, dims in dict(outputs=outputs, inputs=inputs).items()
    }


def _width(layer: nn.Module, side: str) -> int:
    if isinstance(layer, _BatchNorm):
        return layer.num_features
    dim = _dims(layer)[side]
    return layer.weight.shape[dim.get('weight', dim.get('weight_orig'))]


def _select(value: Tensor, dim: int, kept: Tensor, channels: int) -> Tensor:
    """``index_select``, also where spectral norm has flattened the kernel
    into the inputs: there every channel is a block."""
    if value.shape[dim] == channels:
        return value.index_select(dim, kept)
    return value.view(channels, -1).index_select(0, kept).flatten()


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


def sizes_in(model: nn.Module,
             state: Mapping[str, Tensor]) -> Dict[str, Tuple[int, ...]]:
    """Sizes as :func:`layer_sizes` that the layers of ``model`` have in a
    state dict."""
    sizes = {}
    for name, size in layer_sizes(model).items():
        keys = [
            f'{name}.{key}' for key in ('weight_orig', 'running_mean', 'weight')
        ]
        value = next((state[key] for key in keys if key in state), None)
        if value is None:
            continue
        shape = tuple(value.shape)
        is_embedding = isinstance(model.get_submodule(name), nn.Embedding)
        sizes[name] = shape[1:] if is_embedding else shape[:len(size)]
    return sizes


def resize_layers(model: nn.Module,
                  sizes: Dict[str, Tuple[int, ...]],
                  optimizer: Optional[Optimizer] = None) -> None:
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
        if tuple(size) == present[name]:
            continue
        layer = model.get_submodule(name)
        device = next(model.parameters()).device
        indices = [torch.arange(n, device=device) for n in size]
        keep_channels(layer, *indices, optimizer=optimizer)
