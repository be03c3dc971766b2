from typing import Dict

import torch
import torch.nn as nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def complexity(generator: nn.Module) -> Dict[str, int]:
    """Parameters, and multiply-adds of one image, of a generator.

    Counts what torch executes for convolutions and matrix products; norms,
    activations and masks are left out, as usual.
    """
    device = next(generator.parameters()).device
    noise = torch.zeros(1, generator.noise_size, device=device)
    label = torch.zeros(1, dtype=torch.long, device=device)
    with FlopCounterMode(display=False) as counter:
        generator(noise, label=label)
    return dict(
        parameters=sum(p.numel() for p in generator.parameters()),
        multiply_adds=counter.get_total_flops() // 2)
