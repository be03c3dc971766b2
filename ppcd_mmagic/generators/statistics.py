"""What batch norms know of what passes through them."""

from typing import Iterable, List

import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(generator: nn.Module) -> List[_BatchNorm]:
    """Norms with statistics of their own."""
    return [
        norm
        for norm in generator.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats
    ]


@torch.no_grad()
def settle_statistics(generator: nn.Module, inputs: Iterable[tuple]) -> None:
    """Count anew, as a plain mean over batches, instead of the running
    averages of a training. The generator is in evaluation mode afterwards.

    Args:
        generator (nn.Module): With batch norms.
        inputs (Iterable[tuple]): Positional and keyword arguments of each
            batch.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=3)
        ... )
        >>> settle_statistics(generator, [random_inputs(generator, 4)] * 8)
    """
    norms = batch_norms(generator)
    generator.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    for args, kwargs in inputs:
        generator(*args, **kwargs)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
