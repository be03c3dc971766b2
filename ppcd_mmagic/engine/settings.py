"""What counts of a config, wherever it stands."""

import inspect
from typing import Any, Dict, Iterator, Tuple

from mmengine.config import Config
from mmengine.runner import Runner

# what a runner is built with, and what is read beside; a config's other names
# are values that it is put together from
SETTINGS = frozenset(inspect.signature(Runner.__init__).parameters) - {
    'self',
    'cfg',
} | {
    'allow_changes',
    'compile',
    'custom_imports',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}


def hooks_of(settings: Any) -> Dict[str, Any]:
    """Hooks of a config, wherever they stand.

    Args:
        settings (dict | Config): ``default_hooks`` have names and
            ``custom_hooks`` numbers, there may be both.

    Returns:
        Dict[str, Any]: By the places that settings of the command line go
        to, as ``default_hooks.checkpoint`` and ``custom_hooks.0``, in the
        order in which they are registered; none that ``None`` switches off.
    """
    named = settings.get('default_hooks') or {}
    listed = settings.get('custom_hooks') or []
    return {
        **{
            f'default_hooks.{name}': hook
            for name, hook in named.items()
            if hook is not None
        },
        **{f'custom_hooks.{i}': hook for i, hook in enumerate(listed)},
    }


def walk(node: Any, name: str = '') -> Iterator[Tuple[str, Any]]:
    """Every setting with its dotted name, groups before what they hold."""
    yield name, node
    pairs = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node if isinstance(node, (list, tuple)) else ())
    )
    for key, value in pairs:
        yield from walk(value, f'{name}.{key}' if name else str(key))


def kind_of(hook: Any) -> str:
    """The name of a hook's type, without its scope; '' of what is no hook."""
    named = isinstance(hook, dict) and hook.get('type')
    return str(named or '').split('.')[-1]


def listed(parts: Any) -> list:
    """What a config has once or, in a list, several times, as a list."""
    return parts if isinstance(parts, list) else [parts] if parts else []


def settings_of(config: Config) -> Dict[str, Any]:
    """What a training is determined by.

    Args:
        config (Config): A training config.

    Returns:
        Dict[str, Any]: Its settings, with all hooks under one name and in an
        order of their own: the same for configs that train the same.
    """
    settings = config.to_dict()
    hooks = sorted(hooks_of(settings).values(), key=kind_of)
    named = {key: settings[key] for key in SETTINGS & settings.keys()}
    named.pop('default_hooks', None)
    named.pop('custom_hooks', None)
    return dict(named, hooks=hooks)
