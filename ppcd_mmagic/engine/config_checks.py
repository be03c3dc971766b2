"""What is wrong with a config as it stands, before anything is built."""
import inspect
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple, get_args, \
    get_type_hints

from mmengine.config import Config

from ppcd_mmagic import registry

_NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
# settings of any part, by the end of their name: least value, and whether it
# must be whole
_LEAST = {
    'max_iters': (1, True),
    'val_interval': (1, True),
    'batch_size': (1, True),
    'num_workers': (0, True),
    'fake_nums': (1, True),
    'num_classes': (1, True),
    'noise_size': (1, True),
    'loss_weight': (0, False),
    'pixel_weight': (0, False),
    'feature_weight': (0, False),
    'lr': (0, False),
}


def config_problems(config: Config) -> List[str]:
    """Look for what would fail, or be taken for something else.

    Args:
        config (Config): A training config.

    Returns:
        List[str]: One line for each: unknown arguments of this package's
        parts, texts where numbers belong, values out of range, windows of
        pruning outside the training, hooks given twice, pictures of another
        size than the generator's.
    """
    missing = [key for key in _NEEDED if not config.get(key)]
    if missing:
        return [f'this is no training config, it has no {key}: take one of '
                'configs/ as the base' for key in missing]
    settings = config.to_dict()
    # one line for each setting
    of_settings = {**dict(_range_problems(settings)),
                   **dict(_argument_problems(settings))}
    return [
        *of_settings.values(), *_hook_problems(settings),
        *_size_problems(settings)
    ]


def _walk(node: Any, name: str = '') -> Iterator[Tuple[str, Any]]:
    """Every setting with its dotted name, groups before what they hold."""
    yield name, node
    pairs = node.items() if isinstance(node, dict) else enumerate(
        node if isinstance(node, (list, tuple)) else ())
    for key, value in pairs:
        yield from _walk(value, f'{name}.{key}' if name else str(key))


# what of a config is built; the rest are values that it is put together from
_BUILT = ('model', 'train_dataloader', 'val_dataloader', 'train_cfg',
          'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks',
          'val_evaluator', 'val_cfg')


def _parts(settings: dict) -> Iterator[Tuple[str, dict]]:
    for key in _BUILT:
        for name, node in _walk(settings.get(key), key):
            if isinstance(node, dict) and isinstance(node.get('type'), str):
                yield name, node


def _argument_problems(settings: dict) -> Iterator[Tuple[str, str]]:
    for name, part in _parts(settings):
        built = _own_part(part['type'])
        if built is None:
            continue
        known = _parameters(built)
        for key, value in part.items():
            if key in ('type', '_scope_'):  # of bases in another scope
                continue
            if known is not None and key not in known:
                yield f'{name}.{key}', (
                    f'{name}.{key}: {part["type"]} has no such setting; it has '
                    f'{", ".join(known)}')
                continue
            wanted = _kind_wanted((known or {}).get(key), value)
            if wanted:
                yield f'{name}.{key}', (
                    f'{name}.{key}={value!r} must be {wanted}, not '
                    f'{type(value).__name__}')


def _own_part(kind: str) -> Optional[type]:
    bare = kind.removeprefix('ppcd_mmagic.')
    for name in ('MODELS', 'HOOKS', 'DATASETS', 'METRICS', 'DATA_SAMPLERS',
                 'LOOPS'):
        built = getattr(registry, name).module_dict.get(bare)
        if inspect.isclass(built):
            return built
    return None


def _parameters(built: type) -> Optional[Dict[str, Any]]:
    """Arguments of a class with their annotations, those passed on to its
    parents among them; None where there is no telling."""
    known: Dict[str, Any] = {}
    for owner in built.__mro__:
        init = owner.__dict__.get('__init__')
        if init is None:
            continue
        try:
            hints = get_type_hints(init)
        except Exception:  # annotations of others may name what is not there
            hints = {}
        passed_on = False
        for key, parameter in inspect.signature(init).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                passed_on = True
            elif key != 'self' and parameter.kind is not \
                    parameter.VAR_POSITIONAL:
                known.setdefault(key, hints.get(key))
        if not passed_on:
            return known
    return None


def _kind_wanted(annotation: Any, value: Any) -> str:
    """What a setting must be, where it is a text, or not a truth, instead."""
    kinds = get_args(annotation) or (annotation, )
    numbers = [kind for kind in kinds if kind in (int, float)]
    if isinstance(value, str) and str not in kinds:
        if numbers:
            return 'a number'
        if bool in kinds:
            return 'True or False'
    if isinstance(value, bool) and numbers and bool not in kinds:
        return 'a number'
    return ''


def _range_problems(settings: dict) -> Iterator[Tuple[str, str]]:
    for name, value in _walk(
            {key: settings.get(key) for key in _BUILT}):
        key = name.split('.')[-1]
        if key not in _LEAST or value is None or isinstance(
                value, (dict, list)):
            continue
        least, whole = _LEAST[key]
        kind = 'a whole number' if whole else 'a number'
        allowed = (int, ) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            yield name, f'{name}={value!r} must be {kind}'
        elif not value >= least and value == value:  # NaN is for the guard
            yield name, f'{name}={value} must be {kind} of at least {least}'


def _hook_problems(settings: dict) -> Iterator[str]:
    hooks = [
        hook for hook in settings.get('custom_hooks') or ()
        if isinstance(hook, dict)
    ]
    kinds = [str(hook.get('type')).split('.')[-1] for hook in hooks]
    for kind in dict.fromkeys(kinds):
        if kinds.count(kind) > 1 and _own_part(kind):
            yield f'custom_hooks has {kind} {kinds.count(kind)} times: keep one'
    length = settings['train_cfg'].get('max_iters')
    if not isinstance(length, int) or length < 1:
        return
    for index, hook in enumerate(hooks):
        if kinds[index] != 'MaskBinarizationHook':
            continue
        begin, end = hook.get('begin', 0), hook.get('end')
        for key, value in (('begin', begin), ('end', end)):
            if isinstance(value, int) and value > length:
                yield (f'custom_hooks.{index}.{key}={value} is beyond the end '
                       f'of the training: train_cfg.max_iters={length}; the '
                       'masks would not be pruned as far as alpha says')


def _size_problems(settings: dict) -> Iterator[str]:
    generator = settings['model'].get('generator') or {}
    size = generator.get('output_scale') if isinstance(generator,
                                                       dict) else None
    for name in ('train_dataloader', 'val_dataloader'):
        dataset = (settings.get(name) or {}).get('dataset') or {}
        found = dataset.get('size')
        for step in dataset.get('pipeline') or ():
            if isinstance(step, dict) and re.search('Resize$',
                                                    str(step.get('type'))):
                scale = step.get('scale')
                found = scale[-1] if isinstance(scale,
                                                (list, tuple)) else found
        if size and found and found != size:
            yield (f'{name}: pictures of {found} px, but the generator draws '
                   f'{size} px: set model.generator.output_scale (and the '
                   "discriminator's input_scale) or the data alike")
