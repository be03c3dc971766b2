"""How large a module is, and how much it computes."""
from typing import Any, Dict

import torch
import torch.nn as nn
from torch.utils.flop_counter import FlopCounterMode

from .recording import split_inputs


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
