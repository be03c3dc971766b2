"""What a config says of its hooks."""

from typing import Any, Dict


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
