from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Trains in torch's channels_last layout.

    Weights of four dimensions lie channels last, and what convolutions make
    of images does too, so that oneDNN on a CPU, and Tensor cores in half
    precision, compute without reordering. Values change by rounding alone;
    a checkpoint is the same in any layout. Weights that
    :class:`ShrinkHook` has cut are laid out again.

    Example:
        >>> default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
        >>> HOOKS.build(default_hooks['channels_last']).priority
        'NORMAL'
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        for weight in runner.model.parameters():
            if weight.dim() == 4 and not weight.is_contiguous(
                memory_format=torch.channels_last
            ):
                weight.data = weight.data.contiguous(
                    memory_format=torch.channels_last
                )
