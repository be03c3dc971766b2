"""How large a module is, and how much it computes."""
from math import prod
from typing import Any, Dict, Set

import torch
import torch.nn as nn
from torch import fx
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.flop_counter import FlopCounterMode

from .linking import Channels
from .masks import ChannelMask
from .recording import split_inputs
from .widths import is_depthwise, tensors_of, width


@torch.no_grad()
def complexity(module: nn.Module, example_inputs: Any) -> Dict[str, int]:
    """Parameters, and multiply-adds of one execution in evaluation mode.

    Counts what torch executes for convolutions and matrix products; norms,
    activations and masks are left out, as usual.

    Args:
        module (nn.Module): Any module.
        example_inputs (Tensor | tuple | dict): Of a batch of one, for figures
            of one image. See :func:`~ppcd_mmagic.channels.mask_channels`.

    Returns:
        dict: ``parameters`` and ``multiply_adds``.
    """
    args, kwargs = split_inputs(example_inputs)
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            module(*args, **kwargs)
    finally:
        for child, mode in modes.items():
            child.training = mode
    return dict(
        parameters=sum(p.numel() for p in module.parameters()),
        multiply_adds=counter.get_total_flops() // 2)


def remaining_complexity(channels: Channels) -> Dict[str, int]:
    """What would be left if the channels that can leave now were discarded.

    Nothing is cut and nothing executed, so many states of the masks can be
    tried.

    Args:
        channels (Channels): Of a masked module.

    Returns:
        dict: ``parameters``, and ``multiply_adds`` of convolutions and linear
        layers for one sample of the example inputs.
    """
    kept = {key: len(indices) for key, indices in channels.kept().items()}
    counted: Set[nn.Parameter] = set()  # layers may share one
    return dict(
        parameters=sum(
            _parameters(name, layer, kept, counted)
            for name, layer in channels.module.named_modules()
            if not isinstance(layer, (ChannelMask, ParametrizationList))),
        multiply_adds=sum(
            _multiply_adds(node, channels.module, kept)
            for node in channels.analysis.recording.graph.nodes
            if node.op == 'call_module'))


def _parameters(name: str, layer: nn.Module, kept: Dict[tuple, int],
                counted: Set[nn.Parameter]) -> int:
    total = 0
    parameters = dict(layer.named_parameters(recurse=False))
    for own, steps in getattr(layer, 'parametrizations', {}).items():
        for inner, parameter in steps.named_parameters():
            parameters[f'parametrizations.{own}.{inner}'] = parameter
    for own, parameter in parameters.items():
        if parameter in counted:
            continue
        counted.add(parameter)
        left, path = parameter.numel(), f'{name}.{own}' if name else own
        for side in ('outputs', 'inputs'):
            if (name, side) in kept and own in tensors_of(layer, side):
                left = left * kept[name, side] // width(layer, side)
        for dim, size in enumerate(parameter.shape):
            left = left * kept.get((path, dim), size) // size
        total += left
    return total


def _multiply_adds(node: fx.Node, module: nn.Module,
                   kept: Dict[tuple, int]) -> int:
    name = str(node.target)
    layer = module.get_submodule(name)
    if not isinstance(layer, (_ConvNd, nn.Linear)):
        return 0
    outputs = kept.get((name, 'outputs'), width(layer, 'outputs'))
    inputs = kept.get((name, 'inputs'), width(layer, 'inputs'))
    if isinstance(layer, nn.Linear):
        return outputs * inputs * prod(node.meta['shape'][1:-1])
    # a transposed convolution works at every pixel of its input
    source = node.all_input_nodes[0] if layer.transposed else node
    pixels = prod(source.meta['shape'][2:]) * prod(layer.kernel_size)
    if is_depthwise(layer):
        return outputs * pixels
    return outputs * (inputs // layer.groups) * pixels
