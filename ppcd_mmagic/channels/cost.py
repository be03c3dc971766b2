"""How large a module is, and how much it computes."""

from contextlib import contextmanager
from math import prod
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import torch
import torch.nn as nn
from torch import fx
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_leaves

from .computed_weights import parametrized_values
from .linking import Channels
from .masks import ChannelMask
from .recording import Recording, counting_products, split_inputs
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

    Counts what torch executes for convolutions and matrix products, those of
    attention and of recurrent layers among them, each :func:`as_written`;
    norms, activations, masks and products with a single vector are left out,
    as usual.

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
        with counting_products() as counter, as_written(module):
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
        dict: ``parameters``, and ``multiply_adds`` for one sample of the
        example inputs: what :func:`complexity` counts of the module without
        those channels. What is computed by neither convolutions nor linear
        layers counts as a whole.

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
    counted: Set[int] = set()  # layers may share one
    modules = dict(channels.module.named_modules())
    # what a weight is computed by goes where the weight is folded
    beside = {
        inner
        for layer in modules.values()
        if isinstance(layer, (ChannelMask, ParametrizationList))
        for inner in layer.modules()
    }
    recording = channels.analysis.recording
    return dict(
        parameters=[
            term
            for name, layer in modules.items()
            if layer not in beside
            for term in _parameters(name, layer, channels, counted)
        ],
        multiply_adds=[
            term
            for node, samples in _samples(recording).items()
            for term in _multiply_adds(node, samples, channels)
        ],
    )


def _parameters(
    name: str, layer: nn.Module, channels: Channels, counted: Set[int]
) -> Iterator[Term]:
    holds = channels.analysis.holds
    widths = widths_of(layer)
    for own, key, size in _held(layer):
        if key in counted:
            continue
        counted.add(key)
        path = f'{name}.{own}' if name else own
        sides: List[Side] = [
            (name, side)
            for side in ('outputs', 'inputs')
            if (name, side) in holds
            and widths is not None
            and (own in getattr(widths, side) or own in tensors_of(layer, side))
        ]
        sides += [
            (path, dim) for dim in range(len(size)) if (path, dim) in holds
        ]
        full = prod(width_of(channels, side) for side in sides)
        yield Term(prod(size) / full, tuple(sides))


def _held(layer: nn.Module) -> Iterator[Tuple[str, int, torch.Size]]:
    """Parameters of a layer: name, identity and shape. One that is computed
    from others is one, as it is when channels have been discarded."""
    for own, parameter in layer.named_parameters(recurse=False):
        yield own, id(parameter), parameter.shape
    for own, value in parametrized_values(layer).items():
        steps = layer.get_submodule(f'parametrizations.{own}')
        yield own, id(next(steps.parameters(), steps)), value.shape


def _multiply_adds(
    node: fx.Node, samples: int, channels: Channels
) -> Iterator[Term]:
    """Of one node, which computes so many samples at once."""
    name = str(node.target)
    layer = (
        channels.module.get_submodule(name)
        if node.op == 'call_module'
        else None
    )
    if isinstance(layer, nn.Embedding):
        return  # looks up; what it computes, if anything, is its weight
    holds = channels.analysis.holds
    sides = [(name, side) for side in _sides(layer)]
    found = tuple(side for side in sides if side in holds)
    if layer is None or not found:
        # it is not known what of it goes with which channels, so all stays
        operations = node.meta.get('operations', 0)
        yield Term(operations / 2 / samples, ())
        return
    factor = _positions(node, layer) * prod(getattr(layer, 'kernel_size', ()))
    for _, side in set(sides) - set(found):
        factor *= width(layer, side)
    groups = 1 if is_depthwise(layer) else getattr(layer, 'groups', 1)
    yield Term(factor / groups / samples, found)


def _sides(layer: Optional[nn.Module]) -> Tuple[str, ...]:
    """What the products of a layer grow with."""
    if not isinstance(layer, (nn.Linear, _ConvNd)):
        return ()
    return ('outputs',) if is_depthwise(layer) else ('outputs', 'inputs')


def _positions(node: fx.Node, layer: nn.Module) -> int:
    """At how many places a layer multiplies by its weight, whatever dimensions
    they lie along, the batch among them."""
    if getattr(layer, 'transposed', False):  # at every pixel of its input
        return prod(node.all_input_nodes[0].meta['shape']) // width(
            layer, 'inputs'
        )
    return prod(node.meta['shape']) // width(layer, 'outputs')


def _samples(recording: Recording) -> Dict[fx.Node, int]:
    """How many samples of the example inputs each node computes at once: one
    where it depends on none, such as a constant of the module."""
    nodes = list(recording.graph.nodes)
    inputs = [n for n in nodes if n.op == 'placeholder']
    sizes = [n.meta['shape'][0] for n in inputs if n.meta['shape']]
    count = sizes[0] if sizes else 1
    found = {n for n in inputs if n.meta['shape'][:1] == (count,)}
    for node in nodes:
        sources = {
            name
            for value in tree_leaves((node.args, node.kwargs))
            for name, dim in getattr(value, 'sources', ())
            if dim == 0  # as long as the batch
        }
        if any(n in found for n in node.all_input_nodes) or any(
            n.name in sources for n in found
        ):
            found.add(node)
    return {node: count if node in found else 1 for node in nodes}
