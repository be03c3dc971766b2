"""Weights in the memory layout that makes convolutions fast."""

from typing import Any, Optional

import torch
import torch.nn as nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils import _pytree

from ppcd_mmagic.compat import is_compiling


def fast_layout(weight: torch.Tensor) -> Optional[torch.memory_format]:
    """The memory format in which a 2-D convolution is fastest where its
    weight is, None where that is not known.

    On the CPU that is channels_last, of what oneDNN computes: it takes
    channels in blocks, and gets them so without reordering. On CUDA it is
    channels_last where Tensor cores are used (in half precision, of the
    weight or by autocast, on cards that have them), else contiguous.

    Args:
        weight (Tensor): Of the convolution.

    Example:
        >>> fast_layout(nn.Conv2d(3, 8, 3).weight)
        torch.channels_last
    """
    half = weight.dtype in (torch.float16, torch.bfloat16)
    if weight.device.type == 'cuda':
        # compute capability 7 and above
        cores = torch.cuda.get_device_capability(weight.device) >= (7, 0)
        if cores and (half or torch.is_autocast_enabled()):
            return torch.channels_last
        return torch.contiguous_format
    if weight.device.type == 'cpu' and torch.backends.mkldnn.is_available():
        if half or weight.dtype == torch.float32:
            return torch.channels_last
    return None


class LayoutFollower:
    """Keeps the weights of 2-D convolutions in the layout of
    :func:`fast_layout`, wherever the model goes.

    Values do not change, nor do parameters of other layers, nor the layout
    of what the model returns. A layout that is given to the model by hand
    stays as long as model and precision stay where they are. Compiled graphs
    do as they were compiled.
    """

    def __init__(self) -> None:
        self.chosen: Optional[torch.memory_format] = None

    def follow(self, model: nn.Module) -> None:
        """Register with a model."""
        self._lay_out(model)
        model.register_forward_pre_hook(self.before_call)
        model.register_forward_hook(self.after_call)
        model.register_load_state_dict_post_hook(self.after_loading)

    def before_call(self, model: nn.Module, args: tuple) -> None:
        """Forward pre-hook."""
        if not is_compiling() and not torch.jit.is_tracing():
            self._lay_out(model)

    def after_call(self, model: nn.Module, args: tuple, out: Any) -> Any:
        """Forward hook: images (n, c, h, w) can be viewed as (n, -1), as
        those of any generator."""
        return _pytree.tree_map_only(torch.Tensor, torch.Tensor.contiguous, out)

    def after_loading(self, model: nn.Module, keys: Any) -> None:
        """Post-hook of loading, which may have exchanged parameters."""
        self.chosen = None
        self._lay_out(model)

    def _lay_out(self, model: nn.Module) -> None:
        weight = next(
            (
                layer.weight
                for layer in model.modules()
                if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
            ),
            None,
        )
        wanted = None if weight is None else fast_layout(weight)
        if wanted == self.chosen:
            return
        # weights made for inference only would be lost to training
        with torch.inference_mode(False):
            convert_conv2d_weight_memory_format(
                model, wanted or torch.contiguous_format
            )
        self.chosen = wanted
