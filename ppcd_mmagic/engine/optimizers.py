"""Which of a training's optimizers moves a module."""

from typing import Any, Optional

import torch.nn as nn
from mmengine.optim import OptimWrapper, OptimWrapperDict

from ppcd_mmagic.errors import PPCDError


def optim_wrapper_of(
    optim_wrapper: Any, module: nn.Module
) -> Optional[OptimWrapper]:
    """The wrapper of the optimizer that holds a module's parameters.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict | dict): The runner's,
            whatever its parts are called; a config still, where a model is
            only tested.
        module (nn.Module): Not wrapped.

    Returns:
        OptimWrapper | None: None where no optimizer holds any of them.

    Raises:
        PPCDError: If several optimizers hold some.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        wrappers = list(dict.fromkeys(optim_wrapper.values()))
    else:
        wrappers = [optim_wrapper]
    own = {id(parameter) for parameter in module.parameters()}
    found = [
        wrapper
        for wrapper in wrappers
        if isinstance(wrapper, OptimWrapper)
        and not own.isdisjoint(map(id, _held(wrapper)))
    ]
    if len(found) > 1:
        raise PPCDError(
            f'{len(found)} optimizers hold parameters of '
            f'{type(module).__name__}; one must hold all of them.'
        )
    return found[0] if found else None


def holds_only(wrapper: OptimWrapper, *modules: nn.Module) -> bool:
    """Whether an optimizer holds no parameters but those of the modules."""
    own = {id(p) for module in modules for p in module.parameters()}
    return all(id(parameter) in own for parameter in _held(wrapper))


def _held(wrapper: OptimWrapper) -> list:
    return [
        p for group in wrapper.optimizer.param_groups for p in group['params']
    ]
