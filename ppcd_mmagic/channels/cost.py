"""How large a module is, and how much it computes."""

from contextlib import contextmanager
from math import prod
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

import torch
import torch.nn as nn
from torch import fx
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.flop_counter import FlopCounterMode

from .linking import Channels
from .masks import ChannelMask
from .recording import split_inputs
from .widths import is_depthwise, tensors_of, width, widths_of

Side = Tuple[str, Any]  # an owner and one side of it, as in Analysis.holds


@contextmanager
def as_written(module: nn.Module) -> Iterator[None]:
    """Have layers compute as their class says, where some take a cheaper way
    to the same values: those with an attribute ``as_written``.

    Args:
        module (nn.Module): Whatever has such layers inside, or none.

    Example:
        >>> net = nn.Conv2d(3, 8, 1)
        >>> with as_written(net):
        ...     net(torch.zeros(1, 3, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """
    layers: List[Any] = [
        layer
        for layer in module.modules()
        if not getattr(layer, 'as_written', True)
    ]
    for layer in layers:
        layer.as_written = True
    try:
        yield
    finally:
        for layer in layers:
            layer.as_written = False


@torch.no_grad()
def complexity(module: nn.Module, example_inputs: Any) -> Dict[str, int]:
    """Parameters, and multiply-adds of one execution in evaluation mode.

    Counts what torch executes for convolutions and matrix products, each
    :func:`as_written`; norms, activations and masks are left out, as usual.

    Args:
        module (nn.Module): Any module.
        example_inputs (Tensor | tuple | dict): Of a batch of one, for figures
            of one image. See :func:`~ppcd_mmagic.channels.mask_channels`.

    Returns:
        dict: ``parameters`` and ``multiply_adds``.

    Example:
        >>> complexity(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 16, 16))
        {'parameters': 224, 'multiply_adds': 55296}
    """
    args, kwargs = split_inputs(example_inputs)
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with FlopCounterMode(display=False) as counter, as_written(module):
            module(*args, **kwargs)
    finally:
        for child, mode in modes.items():
            child.training = mode
    return dict(
        parameters=sum(p.numel() for p in module.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
    )


class Term(NamedTuple):
    """One product of the sum that a complexity is.

    Attributes:
        factor (float): What does not change.
        sides (tuple): What the channels along are counted of.
    """

    factor: float
    sides: Tuple[Side, ...]


def remaining_complexity(channels: Channels) -> Dict[str, int]:
    """What would be left if the channels that can leave now were discarded.

    Nothing is cut and nothing executed, so many states of the masks can be
    tried.

    Args:
        channels (Channels): Of a masked module.

    Returns:
        dict: ``parameters``, and ``multiply_adds`` of convolutions, linear
        layers and matrix products for one sample of the example inputs. It is
        what :func:`complexity` counts, but for products inside of layers of
        which nothing is known.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> channels = mask_channels(net, torch.zeros(1, 3, 4, 4))
        >>> channels.masks['0'].prune(4)
        >>> remaining_complexity(channels)
        {'parameters': 31, 'multiply_adds': 384}
    """
    kept = {key: len(indices) for key, indices in channels.kept().items()}
    return {
        what: sum(
            round(
                term.factor
                * prod(
                    kept.get(side, width_of(channels, side))
                    for side in term.sides
                )
            )
            for term in terms
        )
        for what, terms in complexity_terms(channels).items()
    }


def width_of(channels: Channels, side: Side) -> int:
    """Number of channels along a side, dead ones included."""
    return len(channels.analysis.holds[side][0])


def complexity_terms(channels: Channels) -> Dict[str, List[Term]]:
    """``parameters`` and ``multiply_adds`` as sums of products, to be
    computed for many widths."""
    counted: Set[nn.Parameter] = set()  # layers may share one
    modules = channels.module.named_modules()
    return dict(
        parameters=[
            term
            for name, layer in modules
            if not isinstance(layer, (ChannelMask, ParametrizationList))
            for term in _parameters(name, layer, channels, counted)
        ],
        multiply_adds=[
            term
            for node in channels.analysis.recording.graph.nodes
            for term in _multiply_adds(node, channels)
        ],
    )


def _parameters(
    name: str, layer: nn.Module, channels: Channels, counted: Set[nn.Parameter]
) -> Iterator[Term]:
    holds = channels.analysis.holds
    parameters = dict(layer.named_parameters(recurse=False))
    for own, steps in getattr(layer, 'parametrizations', {}).items():
        for inner, parameter in steps.named_parameters():
            parameters[f'parametrizations.{own}.{inner}'] = parameter
    for own, parameter in parameters.items():
        if parameter in counted:
            continue
        counted.add(parameter)
        path = f'{name}.{own}' if name else own
        sides: List[Side] = [
            (name, side)
            for side in ('outputs', 'inputs')
            if (name, side) in holds
            and widths_of(layer) is not None
            and own in tensors_of(layer, side)
        ]
        sides += [
            (path, dim) for dim in range(parameter.ndim) if (path, dim) in holds
        ]
        full = prod(width_of(channels, side) for side in sides)
        yield Term(parameter.numel() / full, tuple(sides))


def _multiply_adds(node: fx.Node, channels: Channels) -> Iterator[Term]:
    if node.op in ('call_function', 'call_method'):
        # it is not known what they do to channels, so that all of them stay
        yield Term(_of_product(node) / _samples(node), ())
        return
    if node.op != 'call_module':
        return
    name = str(node.target)
    layer = channels.module.get_submodule(name)
    if isinstance(layer, nn.Linear):
        factor = prod(node.meta['shape'][1:-1])
    elif isinstance(layer, _ConvNd):
        # a transposed convolution works at every pixel of its input
        source = node.all_input_nodes[0] if layer.transposed else node
        factor = prod(source.meta['shape'][2:]) * prod(layer.kernel_size)
    else:
        return
    groups = getattr(layer, 'groups', 1)
    found = []
    for side in ('outputs',) if is_depthwise(layer) else ('outputs', 'inputs'):
        if (name, side) in channels.analysis.holds:
            found.append((name, side))
        else:
            factor *= width(layer, side)
    yield Term(factor if is_depthwise(layer) else factor / groups, tuple(found))


_PRODUCTS = (
    'matmul',
    '__matmul__',
    '__rmatmul__',
    'mm',
    'bmm',
    'addmm',
    'baddbmm',
)


def _of_product(node: fx.Node) -> int:
    """Multiply-adds of a matrix product, 0 of anything else."""
    name = (
        node.target
        if isinstance(node.target, str)
        else getattr(node.target, '__name__', '')
    )
    shapes = [
        n.meta.get('shape', ()) for n in node.args if isinstance(n, fx.Node)
    ]
    if name in _PRODUCTS and len(shapes) > 1:
        left = shapes[-1 if name == '__rmatmul__' else -2]
        return prod(node.meta['shape']) * left[-1]
    if name == 'scaled_dot_product_attention' and len(shapes) > 2:
        query, key, value = shapes[:3]
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    return 0


def _samples(node: fx.Node) -> int:
    """Samples in a batch of the example inputs."""
    shapes = [
        n.meta['shape'] for n in node.graph.nodes if n.op == 'placeholder'
    ]
    return next((shape[0] for shape in shapes if shape), 1)
