"""The generators in a model of MMagic, whatever holds them."""

from typing import Any, Iterator, List, NamedTuple, Optional

import torch.nn as nn
from mmengine.model import is_model_wrapper

from ppcd_mmagic.errors import PPCDError


class TrainedGenerator(NamedTuple):
    """A generator and, if there is one, its EMA copy.

    Attributes:
        name (str): In the model, which its weights' names begin with:
            'generator', or 'generators.photo' where there are several.
        module (nn.Module): Out of the wrappers of distributed training.
        ema (nn.Module, optional): The copy, out of what averages it.
        ema_name (str): What the names of the copy's weights begin with.
    """

    name: str
    module: nn.Module
    ema: Optional[nn.Module] = None
    ema_name: str = ''

    @property
    def both(self) -> List[nn.Module]:
        """The generator, and its copy if there is one."""
        return [self.module] if self.ema is None else [self.module, self.ema]

    @property
    def short_name(self) -> str:
        """Its name among several, '' where it is the only one."""
        return self.name.partition('.')[2]


def generators_of(model: nn.Module) -> List[TrainedGenerator]:
    """The generators of a model: its ``generator``, or those that its
    ``generators`` hold, one for each domain of a translation.

    Raises:
        PPCDError: If the model has neither.
    """
    model = _unwrapped(model)
    found = [*_held(model, 'generator'), *_held(model, 'generators')]
    if not found:
        raise PPCDError(
            f'{type(model).__name__} has no generator: expected a module '
            'named "generator", or several in "generators".'
        )
    return found


def _held(model: nn.Module, name: str) -> Iterator[TrainedGenerator]:
    held = getattr(model, name, None)
    if held is None:
        return
    held = _unwrapped(held)
    ema: Any = getattr(model, f'{name}_ema', None)
    ema_name = f'{name}_ema'
    if hasattr(ema, 'module'):  # plain in Real-ESRGAN, averaged in the others
        ema, ema_name = ema.module, f'{ema_name}.module'
    if not isinstance(held, (nn.ModuleDict, nn.ModuleList)):
        yield TrainedGenerator(name, held, ema, ema_name)
        return
    for key, child in held.named_children():
        yield TrainedGenerator(
            f'{name}.{key}',
            _unwrapped(child),
            None if ema is None else ema.get_submodule(key),
            f'{ema_name}.{key}',
        )


def _unwrapped(module: Any) -> nn.Module:
    return module.module if is_model_wrapper(module) else module
