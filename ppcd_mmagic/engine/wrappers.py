"""Distributed wrappers of networks that change while they are trained."""

from contextlib import contextmanager
from typing import Iterator, List

import torch.nn as nn
from mmengine.model import is_model_wrapper
from torch.nn.parallel import DistributedDataParallel

from ppcd_mmagic.errors import PPCDError


def refuse_rigid_wrappers(model: nn.Module, who: str) -> None:
    """Before a training whose networks will change.

    Args:
        model (nn.Module): Of a runner.
        who (str): Who changes them, for the message.

    Raises:
        PPCDError: If a wrapper cannot be built anew: one that is not DDP, or
            one that keeps more of the parameters than their gradients.
    """
    for wrapper in model.modules():
        if not is_model_wrapper(wrapper):
            continue
        kind = type(wrapper).__name__
        if not isinstance(wrapper, DistributedDataParallel):
            raise PPCDError(
                f'{who} cannot change what {kind} wraps: take '
                'MMSeparateDistributedDataParallel or '
                'MMDistributedDataParallel, or remove the hook.'
            )
        if getattr(wrapper, '_comm_hooks', None) or getattr(
            wrapper, 'mixed_precision', None
        ):
            raise PPCDError(
                f'{who} cannot change what {kind} wraps: its communication '
                'hook or its mixed precision keeps the sizes it began with. '
                'Do without that, or remove the hook.'
            )


@contextmanager
def wrappers_follow(model: nn.Module) -> Iterator[None]:
    """Have the wrappers in a model average the gradients of the parameters
    that replace others inside this context.

    DDP gives its reducer the parameters there are when it is built, and
    averages nothing else. A wrapper stays, with its settings; its reducer is
    built as torch builds it for a wrapper that is unpickled. All processes
    have to exchange the same parameters.

    Args:
        model (nn.Module): Of a runner; distributed or not.
    """
    wrappers = [
        module
        for module in model.modules()
        # MMEngine's separate one wraps nothing itself
        if isinstance(module, DistributedDataParallel)
        and hasattr(module, 'reducer')
    ]
    before = [list(wrapper.parameters()) for wrapper in wrappers]
    yield
    for wrapper, old in zip(wrappers, before):
        if _are_others(old, list(wrapper.parameters())):
            state = wrapper.__getstate__()
            # gone before the next one: it has hooks on what stays
            del wrapper.reducer, wrapper.logger
            wrapper.__setstate__(state)


def _are_others(one: List[nn.Parameter], two: List[nn.Parameter]) -> bool:
    return len(one) != len(two) or any(a is not b for a, b in zip(one, two))
