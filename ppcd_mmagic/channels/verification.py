"""Whether two modules compute the same."""
from copy import deepcopy
from typing import Any, List

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ppcd_mmagic.errors import PPCDError
from .recording import split_inputs

TOLERANCE = 1e-5


class ExportMismatch(PPCDError):
    """A network without its dead channels computes something else."""


@torch.no_grad()
def outputs_of(module: nn.Module, example_inputs: Any) -> List[Tensor]:
    """Output tensors in eval mode, with the random numbers of one seed."""
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


def largest_difference(expected: List[Tensor],
                       found: List[Tensor]) -> float:
    """Largest difference between two lists of tensors, as a fraction of the
    largest expected value where that is above 1. Not a number if anything is
    not."""
    worst = 0.0
    for a, b in zip(expected, found):
        a, b = a.double().cpu(), b.double().cpu()
        scale = max(float(a.abs().max()), 1.0) if a.numel() else 1.0
        difference = float((a - b).abs().max()) / scale if a.numel() else 0.0
        worst = difference if not difference <= worst else worst
    return worst
