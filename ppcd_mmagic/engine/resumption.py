"""What a resumed training must have in common with the one it continues."""

import ast
import re
from typing import Any, Dict, Iterator, Tuple

from mmengine.config import Config
from mmengine.dist import get_world_size

from ppcd_mmagic.errors import PPCDError
from .settings import hooks_of, kind_of

_COMPARED = ('model', 'train_dataloader', 'randomness')
# what a checkpoint brings along, whatever the config says
_RESTORED = ('optim_wrapper', 'param_scheduler')
# what changes the speed and the log alone
_FREE = re.compile(
    r'train_dataloader\.(num_workers|persistent_workers|'
    r'pin_memory|prefetch_factor)\b'
)
_FREE_HOOKS = (
    'BasicVisualizationHook',
    'CheckpointHook',
    'FiniteGuardHook',
    'IterSeedHook',
    'IterTimerHook',
    'LoggerHook',
    'SafeCheckpointHook',
    'ShortHistoryHook',
    'StopSignalHook',
    'VisualizationHook',
)


def refuse_changes(meta: Dict[str, Any], config: Config, path: str) -> None:
    """Compare the config of a training with that of its checkpoint.

    Args:
        meta (dict): What MMEngine keeps in a checkpoint under this name.
        config (Config): Where ``allow_changes`` is true, model, data and
            pruning may differ.
        path (str): The checkpoint, for the message.

    Raises:
        PPCDError: If they differ, naming what does.
    """
    before = dict(_settings(meta.get('cfg', '')))
    now = dict(_settings(config.pretty_text))
    if not before:
        return  # not written by a runner with a config
    processes = meta.get('world_size')
    if processes is not None:
        before['number of processes'] = processes
        now['number of processes'] = get_world_size()
    changed = [
        key for key in {**before, **now} if before.get(key) != now.get(key)
    ]
    restored = [key for key in changed if key.startswith(_RESTORED)]
    if restored:
        raise PPCDError(
            f'{path} cannot be continued with another '
            f'{_listed(restored, before, now)}: it brings along its own. Take '
            'the settings it was trained with, or start another training from '
            'its weights with --cfg-options load_from=PATH.'
        )
    if changed and not config.get('allow_changes'):
        raise PPCDError(
            f'{path} was trained with another {_listed(changed, before, now)}:'
            ' take the settings it was trained with, or add --allow-changes.'
        )


def _listed(keys: list, before: dict, now: dict) -> str:
    shown = [
        f'{key} ({before.get(key, "none")} then, {now.get(key, "none")} now)'
        for key in keys[:4]
    ]
    return ', '.join(shown) + (', ...' if len(keys) > 4 else '')


def _settings(text: str) -> Iterator[Tuple[str, Any]]:
    """Those that count, by dotted names, of a config as MMEngine prints it.

    The text is read, not run: it comes from a file.
    """
    settings = {
        ast.unparse(node.targets[0]): _value(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
    }
    # by their types: where they stand, and how many others, is no matter
    for hook in hooks_of(settings).values():
        if isinstance(hook, dict):
            kind = kind_of(hook)
            hook.pop('type')
            if kind not in _FREE_HOOKS:
                yield from _flat(kind, hook)
    for name in settings.keys() & {*_COMPARED, *_RESTORED}:
        for key, setting in _flat(name, settings[name]):
            if not _FREE.match(key):
                yield key, setting


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values)
            if key is not None
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element) for element in node.elts]
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


def _flat(name: str, value: Any) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, (dict, list)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from _flat(f'{name}.{key}', inner)
    else:
        yield name, value
