"""A module that is run, and is as it was afterwards."""

from collections import deque
from contextlib import contextmanager
from copy import copy
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy


@contextmanager
def state_kept(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside of the context; after it modes, buffers,
    parameters and plain attributes are as before."""
    with _tensors_kept(module), _attributes_kept(module):
        yield


@contextmanager
def _tensors_kept(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside of the context; after it modes, buffers and
    parameters (an embedding may renormalise its rows) are as before."""
    modes = {child: child.training for child in module.modules()}
    held: List[Tuple[Any, Dict[str, Any]]] = [
        (own, dict(own))
        for child in modes
        for own in (child._buffers, child._parameters)
    ]
    values = [
        (value, value.detach().clone(), value._version)
        for _, before in held
        for value in before.values()
        if value is not None
        and not is_lazy(value)
        and not value.is_inference()  # which cannot be written here
    ]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes.items():
            child.training = mode
        for own, before in held:
            for name, value in before.items():
                if name not in own or own[name] is not value:
                    own[name] = value
        for value, copied, version in values:
            if value._version != version:
                value.detach().copy_(copied)


# what every module has, modes and hooks among them
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """After the context plain attributes are as before, and what is in
    tensors, lists, dicts and sets among them."""
    held: List[Tuple[Dict[str, Any], Dict[str, Any]]] = [
        (
            child.__dict__,
            {k: v for k, v in vars(child).items() if k not in _OF_EVERY_MODULE},
        )
        for child in module.modules()
    ]
    contents: Dict[int, Tuple[Any, Any, Optional[int]]] = {}
    for _, before in held:
        for value in before.values():
            _note_contents(value, contents)
    try:
        yield
    finally:
        for own, before in held:
            for name in [k for k in own if k not in _OF_EVERY_MODULE]:
                if name not in before:
                    del own[name]
            own.update(before)
        for value, content, version in contents.values():
            _restore(value, content, version)


def _note_contents(value: Any, contents: Dict[int, tuple]) -> None:
    if id(value) in contents:
        return
    if type(value) in (Tensor, nn.Parameter):
        if not value.is_inference():
            copied = value.detach().clone()
            contents[id(value)] = value, copied, value._version
    elif isinstance(value, (list, dict, set, deque)):
        contents[id(value)] = value, copy(value), None
        for part in value.values() if isinstance(value, dict) else value:
            _note_contents(part, contents)
    elif isinstance(value, tuple):
        for part in value:
            _note_contents(part, contents)


def _restore(value: Any, content: Any, version: Optional[int]) -> None:
    if torch.is_tensor(value):
        if value._version != version:
            value.detach().copy_(content)
        return
    same = len(value) == len(content) and all(
        a is b for a, b in zip(_parts(value), _parts(content))
    )
    if not same:
        value.clear()
        (value.extend if hasattr(value, 'extend') else value.update)(content)


def _parts(value: Any) -> list:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value)
