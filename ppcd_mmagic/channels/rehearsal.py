"""Trying out, before a training, what will be done after it."""

from typing import Any

import torch
import torch.nn as nn

from .linking import link_masks
from .masks import ChannelMask, named_masks
from .shrinking import folded_copy, try_cut
from .verification import copy_on_cpu, on_cpu, outputs_of, require_same


@torch.no_grad()
def rehearse(
    module: nn.Module, example_inputs: Any, fraction: float = 1.0
) -> None:
    """Take pruned channels out of a copy, and compare.

    What is known of layers and functions is known from a recording. Of what
    Python computes beside it (a number of channels that becomes a factor, say)
    not all can be noticed; found out here, it costs seconds, and after the
    training a training. In copies half of what may fall of each mask does, at
    random, and then all of it, as while it is trained and as for an export;
    what is left is compared on the example inputs and on others (other values,
    classes, batches and sizes, in training mode as well); weights that are the
    same everywhere (biases, gains) are given other values, for zeros hide what
    is wrong.

    Args:
        module (nn.Module): With masks; stays as it is.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        fraction (float): Of a mask that may fall, in [0, 1]; never its last
            entry. Defaults to 1.0.

    Raises:
        ExportMismatch: If a copy without its dead channels computes something
            else.
        PPCDError: If it cannot be cut, or does not run then.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        ...     def forward(self, x):
        ...         y = self.a(x)
        ...         return self.b(y) / math.log2(y.size(1))
        >>> net, images = Net(), torch.randn(2, 3, 4, 4)
        >>> _ = mask_channels(net, images)
        >>> rehearse(net, images)
        Traceback (most recent call last):
        ppcd_mmagic.channels.verification.ExportMismatch: Without its dead
        channels Net differs by ...
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        copy = folded_copy(module)
        inputs = on_cpu(example_inputs)
        _vary(copy)
        if not _is_finite(copy, inputs):
            _scale_down(copy)
        if not _is_finite(copy, inputs):
            copy = folded_copy(module)
        others = True  # once, as what takes most of the time
        for part in (0.5, 1.0):
            _prune(copy, part * fraction)
            kept = link_masks(copy, inputs).kept()
            if kept:
                try_cut(copy, inputs, kept, others)
                others = False
        _try_export(copy, inputs)


def _try_export(module: nn.Module, inputs: Any) -> None:
    """The other way, by which an export goes after the training: it cuts the
    same, so that whether it gets there is all that has to be seen."""
    from .speedup import discard_masked  # NNI takes long to import

    smaller = copy_on_cpu(module)
    discard_masked(smaller, inputs)
    require_same(module, smaller, inputs, others=False)


def _is_finite(module: nn.Module, inputs: Any) -> bool:
    return all(bool(out.isfinite().all()) for out in outputs_of(module, inputs))


def _scale_down(module: nn.Module) -> None:
    """Give large kernels the scale of initialized ones: spectral norm divides
    by a random guess until it has been trained, and what many layers multiply
    overflows."""
    for layer in module.modules():
        for value in layer.parameters(recurse=False):
            if value.ndim < 2 or not value.is_floating_point():
                continue
            wanted = value[0].numel() ** -0.5
            value.mul_(min(1.0, wanted / max(float(value.std()), 1e-30)))


def _prune(module: nn.Module, fraction: float) -> None:
    for _, mask in named_masks(module):
        mask.weight.uniform_()
        mask.prune(int(fraction * mask.channels))


def _vary(module: nn.Module) -> None:
    """Give what is the same everywhere other values: positive ones, which are
    valid wherever zeros and ones are; whole kernels get small ones."""
    for layer in module.modules():
        if isinstance(layer, ChannelMask):
            continue
        tensors = [
            *layer.parameters(recurse=False),
            *(getattr(layer, n, None) for n in ('running_mean', 'running_var')),
        ]
        for value in tensors:
            if not isinstance(value, torch.Tensor) or value.numel() < 2:
                continue
            if not bool((value == value.flatten()[0]).all()):
                continue
            if value.ndim > 1:
                value.normal_(0, value[0].numel() ** -0.5)
            else:
                value.add_(torch.rand_like(value) / 2 + 0.1)
