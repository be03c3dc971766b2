"""Which hooks on a layer are known not to change what it does to channels."""

from typing import Tuple

import torch.nn as nn

_KNOWN: Tuple[type, ...] = ()


def allow(*kinds: type) -> None:
    """Hooks that are, or are methods of, these classes are known."""
    global _KNOWN
    _KNOWN += kinds


def unknown_on(layer: nn.Module) -> bool:
    """Whether a layer has a hook that may change what it computes."""
    return any(
        not isinstance(hook, _KNOWN)
        and not isinstance(getattr(hook, '__self__', None), _KNOWN)
        for hook in (
            *layer._forward_pre_hooks.values(),
            *layer._forward_hooks.values(),
        )
    )
