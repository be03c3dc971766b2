"""Whether two modules compute the same."""

import math
from copy import deepcopy
from typing import Any, Dict, List

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ppcd_mmagic.errors import PPCDError
from .recording import split_inputs

TOLERANCE = 1e-5


class ExportMismatch(PPCDError):
    """A network without its dead channels computes something else."""


@torch.no_grad()
def outputs_of(module: nn.Module, example_inputs: Any) -> List[Tensor]:
    """Output tensors in eval mode, with the random numbers of one seed.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout())
        >>> images = torch.randn(1, 3, 4, 4)
        >>> largest_difference(outputs_of(net, images), outputs_of(net, images))
        0.0
    """
    args, kwargs = split_inputs(example_inputs)
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            out = module(*deepcopy(args), **deepcopy(kwargs))
    finally:
        for child, mode in modes.items():
            child.training = mode
    out = out.to_tuple() if hasattr(out, 'to_tuple') else out
    return [value for value in tree_leaves(out) if torch.is_tensor(value)]


def copy_on_cpu(module: nn.Module) -> nn.Module:
    """A deep copy in which tensors share memory where those of the module do,
    as copies of parameters do not by themselves; what shares memory keeps its
    channels. What a graph has made (the weight of a spectral norm) is copied
    without the graph."""
    storages: Dict[int, torch.UntypedStorage] = {}
    memo: Dict[int, Any] = {}
    for layer in module.modules():
        for value in (
            *layer._parameters.values(),
            *layer._buffers.values(),
            *vars(layer).values(),
        ):
            if type(value) in (Tensor, nn.Parameter):
                memo.setdefault(id(value), _copied(value, storages))
    return deepcopy(module, memo).cpu()


def _copied(value: Tensor, storages: Dict[int, torch.UntypedStorage]) -> Tensor:
    storage = value.untyped_storage()
    if storage.data_ptr() not in storages:
        storages[storage.data_ptr()] = storage.clone().cpu()
    copy = torch.empty(0, dtype=value.dtype).set_(
        storages[storage.data_ptr()],
        value.storage_offset(),
        value.shape,
        value.stride(),
    )
    if isinstance(value, nn.Parameter):
        return nn.Parameter(copy, value.requires_grad)
    return copy


def on_cpu(example_inputs: Any) -> Any:
    """Example inputs of a copy that is there."""
    return tree_map(
        lambda value: value.cpu() if torch.is_tensor(value) else value,
        example_inputs,
    )


def largest_difference(expected: List[Tensor], found: List[Tensor]) -> float:
    """Largest difference between two lists of tensors; not a number if any
    value is not, infinite if they are not as many or of other shapes.

    Example:
        >>> largest_difference([torch.zeros(2)], [torch.tensor([0.0, -0.5])])
        0.5
        >>> largest_difference([torch.zeros(2)], [torch.zeros(3)])
        inf
    """
    if [a.shape for a in expected] != [b.shape for b in found]:
        return float('inf')
    differences = [
        float((a.double() - b.to(a.device).double()).abs().max())
        for a, b in zip(expected, found)
        if a.numel()
    ]
    # Python's own max forgets what is not a number
    return float(torch.tensor(differences).max()) if differences else 0.0


def relative_difference(expected: List[Tensor], found: List[Tensor]) -> float:
    """:func:`largest_difference` as a fraction of the largest expected value,
    where that is above 1."""
    scale = max([1.0] + [float(a.abs().max()) for a in expected if a.numel()])
    return largest_difference(expected, found) / scale


def difference_of(
    module: nn.Module,
    expected: List[Tensor],
    smaller: nn.Module,
    example_inputs: Any,
    tolerance: float,
) -> float:
    """:func:`relative_difference` of a module, wherever it computed what is
    expected, and a smaller one on the CPU, where the inputs are; what is above
    the tolerance may be float32 that rounds or overflows.

    Raises:
        PPCDError: If what they compute is not finite.
    """
    difference = relative_difference(
        expected, outputs_of(smaller, example_inputs)
    )
    if difference <= tolerance:
        return difference
    exact = difference_in_float64(module, smaller, example_inputs)
    if all(bool(out.isfinite().all()) for out in expected):
        return difference if math.isnan(difference) else min(difference, exact)
    if not math.isfinite(exact):
        raise PPCDError(
            f'{type(module).__name__} computes nan or inf from the example '
            'inputs, so that what is left of it cannot be compared with it: '
            'look at its weights, or give inputs as it gets them in use.'
        )
    return exact


def difference_in_float64(
    module: nn.Module, other: nn.Module, example_inputs: Any
) -> float:
    """:func:`relative_difference` of copies that compute in float64; infinite
    where the module cannot (it makes single precision itself)."""
    inputs = tree_map(
        lambda value: (
            value.double()
            if torch.is_tensor(value) and value.is_floating_point()
            else value
        ),
        example_inputs,
    )
    try:
        return relative_difference(
            *(
                outputs_of(deepcopy(each).cpu().double(), inputs)
                for each in (module, other)
            )
        )
    except RuntimeError:
        return float('inf')
