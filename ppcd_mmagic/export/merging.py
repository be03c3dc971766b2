"""Convolutions of enlarged maps compute before the maps are enlarged.

On a graph of any generator what
:class:`~ppcd_mmagic.models.UpsamplingConv2d` does in MMagic's blocks.
"""

from typing import Any, List

import torch
import torch.fx as fx

from ppcd_mmagic.models import merged_kernel
from .nodes import arguments, constant, drop_unused, new_constant

_aten = torch.ops.aten


def merge_upsampling_nodes(graph: fx.GraphModule) -> int:
    """Have convolutions (1 x 1, or 3 x 3 with a padding of 1) of a map that
    was enlarged twice by its nearest neighbours read the map itself, in place.

    Args:
        graph (fx.GraphModule): Of ATen's operators, as the ``module()`` of an
            exported program.

    Returns:
        int: How many convolutions do so now.

    Example:
        >>> net = nn.Sequential(
        ...     nn.Upsample(scale_factor=2), nn.Conv2d(3, 8, 3, padding=1)
        ... )
        >>> program = torch.export.export(net, (torch.randn(2, 3, 16, 16),))
        >>> merge_upsampling_nodes(program.module())
        1
    """
    count = 0
    for node in list(graph.graph.nodes):
        if not _enlarges_twice(node):
            continue
        for user in list(node.users):
            count += _merge(graph, node, user)
    drop_unused(graph)
    return count


def _enlarges_twice(node: fx.Node) -> bool:
    if node.target is not _aten.upsample_nearest2d.vec or node.kwargs:
        return False
    _, size, factors = arguments(node)
    return size is None and factors == [2.0, 2.0]


def _merge(graph: fx.GraphModule, enlarging: fx.Node, conv: fx.Node) -> bool:
    if conv.target is not _aten.conv2d.default or conv.kwargs:
        return False
    given = arguments(conv)
    source, weight, bias, stride, padding, dilation, groups = (
        given + _DEFAULTS[len(given) :]
    )
    kernel = constant(graph, weight)
    if (
        source is not enlarging
        or kernel is None
        or [*stride, *dilation, groups] != [1] * 5
    ):
        return False
    (source, *factors) = arguments(enlarging)
    with graph.graph.inserting_before(conv):
        if kernel.shape[2:] == (1, 1) and padding == [0, 0]:
            small = graph.graph.call_function(
                _aten.conv2d.default, (source, weight, bias)
            )
            new = graph.graph.call_function(
                _aten.upsample_nearest2d.vec, (small, *factors)
            )
        elif kernel.shape[2:] == (3, 3) and padding == [1, 1]:
            merged = new_constant(
                graph, f'{conv.name}_merged', merged_kernel(kernel), conv
            )
            new = graph.graph.call_function(
                _aten.conv_transpose2d.input,
                (source, merged, bias, [2, 2], [1, 1]),
            )
        else:
            return False
    conv.replace_all_uses_with(new)
    return True


# of a convolution: input, weight, bias, stride, padding, dilation, groups
_DEFAULTS: List[Any] = [None, None, None, [1, 1], [0, 0], [1, 1], 1]
