from typing import Optional

import torch.nn as nn
from mmengine.dist import broadcast
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseAveragedModel
from mmengine.runner import Runner, get_state_dict
from torch.optim import Optimizer

from ppcd_mmagic.channels import (
    fit_to_state,
    named_masks,
    shrink_channels,
    zero_dead_channels,
)
from ppcd_mmagic.checkpoints import rename_to_fit
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import HOOKS
from ..optimizers import optim_wrapper_of
from ..wrappers import refuse_rigid_wrappers, wrappers_follow
from .mask_binarization_hook import masked_generators


@HOOKS.register_module()
class ShrinkHook(Hook):
    """Removes pruned channels while training proceeds, so that it gets faster
    and lighter as it goes.

    Generator, EMA copy and optimizer state are cut. Checkpoints are of the
    size reached; resumption and export take them as they are. It runs after
    :class:`MaskBinarizationHook`, whose ``alpha`` still counts the channels a
    mask was built with. In a distributed training all processes cut what the
    masks of rank 0 have pruned, and the wrappers of MMEngine follow.

    Without spectral norm the training is the one that only masks. Spectral
    norm divides by the largest singular value of the weight, which from each
    removal on is that of the living channels; ``remove=False`` gives the run
    that only masks and normalizes in the same way.

    Args:
        interval (int): Iterations between two removals. Each costs a
            recording of the generator and, tried on a copy, some twenty small
            batches of it on the CPU. Defaults to 1000.
        remove (bool): False sets dead weights to zero and keeps them.
            Defaults to True.

    Raises:
        PPCDError: If ``interval`` is less than 1, or when the training
            starts with MMEngine's ``EMAHook``, whose copy of the whole model
            holds on to the sizes it began with, or with a distributed wrapper
            that does: one that is not ``DistributedDataParallel``, or has a
            communication hook or mixed precision of its own.

    Example:
        >>> default_hooks = dict(
        ...     mask_binarization=dict(
        ...         type='MaskBinarizationHook', alpha=0.6, schedule='cubic'
        ...     ),
        ...     shrink=dict(type='ShrinkHook', interval=5000),
        ... )
        >>> HOOKS.build(default_hooks['shrink']).interval
        5000
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 1000, remove: bool = True) -> None:
        if interval < 1:
            raise PPCDError(f'interval={interval} must be at least 1.')
        self.interval = interval
        self.change = shrink_channels if remove else zero_dead_channels

    def before_train(self, runner: Runner) -> None:
        refuse_rigid_wrappers(runner.model, type(self).__name__)
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise PPCDError(
                'ShrinkHook cannot shrink the copy that EMAHook keeps of the '
                'model: average by the model (ema_config), or remove one of '
                'the two.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the sizes of a checkpoint before it is loaded."""
        state = rename_to_fit(
            checkpoint.get('state_dict', checkpoint),
            get_state_dict(runner.model),
        )
        with wrappers_follow(runner.model):
            for generator in masked_generators(runner, type(self).__name__):
                fit_to_state(
                    generator.module,
                    example_inputs(generator.module),
                    _part(state, f'{generator.name}.'),
                    _optimizer(runner, generator.module),
                )
                if generator.ema is not None:
                    fit_to_state(
                        generator.ema,
                        example_inputs(generator.ema),
                        _part(state, f'{generator.ema_name}.'),
                    )
        _refresh_averages(runner.model)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        if (runner.iter + 1) % self.interval:
            return
        with wrappers_follow(runner.model):
            for generator in masked_generators(runner, type(self).__name__):
                self._change(
                    generator.module, _optimizer(runner, generator.module)
                )
                if generator.ema is not None:
                    self._change(generator.ema)
        _refresh_averages(runner.model)

    def _change(
        self, module: nn.Module, optimizer: Optional[Optimizer] = None
    ) -> None:
        for _, mask in named_masks(module):
            broadcast(mask.pruned)
        self.change(module, example_inputs(module), optimizer)


def _optimizer(runner: Runner, generator: nn.Module) -> Optional[Optimizer]:
    wrapper = optim_wrapper_of(runner.optim_wrapper, generator)
    return wrapper and wrapper.optimizer


def _part(state: dict, prefix: str) -> dict:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def _refresh_averages(model: nn.Module) -> None:
    """Averages hold on to the parameters they were built with."""
    for average in model.modules():
        if isinstance(average, BaseAveragedModel):
            module = average.module
            average.avg_parameters = (
                module.state_dict()
                if average.update_buffers
                else dict(module.named_parameters())
            )
