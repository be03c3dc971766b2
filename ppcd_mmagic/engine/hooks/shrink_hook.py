from typing import Optional

import torch.nn as nn
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ppcd_mmagic.channels import (fit_to_state, shrink_channels,
                                  zero_dead_channels)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import example_inputs, generators_of
from ppcd_mmagic.registry import HOOKS


@HOOKS.register_module()
class ShrinkHook(Hook):
    """Removes pruned channels while training proceeds, so that it gets faster
    and lighter as it goes.

    Generator, EMA copy and optimizer state are cut. Checkpoints are of the
    size reached; resumption and export take them as they are. It runs after
    :class:`MaskBinarizationHook`, whose ``alpha`` still counts the channels a
    mask was built with.

    Without spectral norm the training is the one that only masks. Spectral
    norm divides by the largest singular value of the weight, which from each
    removal on is that of the living channels; ``remove=False`` gives the run
    that only masks and normalizes in the same way.

    Args:
        interval (int): Iterations between two removals. Each costs about one
            recording of the generator. Defaults to 1000.
        remove (bool): False sets dead weights to zero and keeps them.
            Defaults to True.

    Raises:
        PPCDError: If ``interval`` is less than 1, or when the training
            starts distributed: wrappers hold on to the sizes they began with.
    """
    priority = 'NORMAL'

    def __init__(self, interval: int = 1000, remove: bool = True) -> None:
        if interval < 1:
            raise PPCDError(f'interval={interval} must be at least 1.')
        self.interval = interval
        self.change = shrink_channels if remove else zero_dead_channels

    def before_train(self, runner: Runner) -> None:
        if is_model_wrapper(runner.model) or is_model_wrapper(
                runner.model.generator):
            raise PPCDError('ShrinkHook cannot shrink a distributed model: '
                             'train on one device or remove the hook.')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the sizes of a checkpoint before it is loaded."""
        state = checkpoint.get('state_dict', checkpoint)
        generator, *ema = generators_of(runner.model)
        wrappers = runner.optim_wrapper
        fit_to_state(
            generator, example_inputs(generator),
            _part(state, 'generator.'),
            # a config still, where a model is only tested
            wrappers['generator'].optimizer if isinstance(
                wrappers, OptimWrapperDict) else None)
        for average in ema:
            fit_to_state(average, example_inputs(average),
                         _part(state, 'generator_ema.module.'))
        _refresh_ema(runner.model)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        if (runner.iter + 1) % self.interval:
            return
        generator, *ema = generators_of(runner.model)
        self.change(generator, example_inputs(generator),
                    runner.optim_wrapper['generator'].optimizer)
        for average in ema:
            self.change(average, example_inputs(average))
        _refresh_ema(runner.model)


def _part(state: dict, prefix: str) -> dict:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items() if key.startswith(prefix)
    }


def _refresh_ema(model: nn.Module) -> None:
    """The average holds on to the parameters it was built with."""
    wrapper = getattr(model, 'generator_ema', None)
    if wrapper is not None:
        wrapper.avg_parameters = wrapper.module.state_dict(
        ) if wrapper.update_buffers else dict(wrapper.module.named_parameters())
