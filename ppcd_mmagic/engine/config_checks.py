"""What is wrong with a config as it stands, before anything is built."""

import difflib
import inspect
import re
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Sequence,
    Tuple,
    get_args,
    get_type_hints,
)

from mmagic import registry as mmagic_registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import set_random_seed

from ppcd_mmagic.errors import PPCDError
from .settings import SETTINGS, hooks_of, kind_of, listed, walk

# what there must be, and what is built, for any loop and by loop; the rest of a
# config are values that it is put together from
_NEEDED = {
    '': ('model',),
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': (),  # there are trainings without
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
_BUILT = {
    '': (
        'model',
        'default_hooks',
        'custom_hooks',
        'log_processor',
        'visualizer',
        'randomness',
    ),
    'train': (
        'train_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
    ),
    'val': ('val_dataloader', 'val_evaluator', 'val_cfg'),
    'test': ('test_dataloader', 'test_evaluator', 'test_cfg'),
}
# settings of any part, by the end of their name: least value, and whether it
# must be whole
_LEAST = {
    'max_iters': (1, True),
    'val_interval': (1, True),
    'batch_size': (1, True),
    'num_workers': (0, True),
    'fake_nums': (-1, True),  # MMagic's for all
    'num_classes': (1, True),
    'noise_size': (1, True),
    'base_channels': (1, True),
    'depth': (1, True),
    'output_scale': (1, True),
    'input_scale': (1, True),
    'seed': (0, True),
    'loss_weight': (0, False),
    'lr': (0, False),
}


def merge_options(config: Config, options: Dict[str, Any], name: str) -> None:
    """Override settings of a config.

    Args:
        config (Config): It, changed in place.
        options (dict): New values by dotted names.
        name (str): Of the config, for the message.

    Raises:
        PPCDError: If there is no place for a setting.
    """
    for key, value in options.items():
        places = dict(walk(config.to_dict()))
        group = places.get(key)
        try:
            first = key.split('.')[0]
            if first not in SETTINGS:
                raise ValueError(_no_setting(first, config))
            if key.startswith('custom_hooks.') and not places.get(
                'custom_hooks'
            ):
                raise ValueError(
                    'there are no custom_hooks; the hooks have names: '
                    + ', '.join(hooks_of(config))
                )
            for number in re.finditer(r'\.\d+(?=\.|$)', key):
                owner = key[: number.start()]
                if not isinstance(places.get(owner), (list, tuple)):
                    raise ValueError(f'{owner} is no list')
            if isinstance(group, dict) and not (
                value is None or isinstance(value, dict)
            ):
                raise ValueError(f'{key} is a group of settings')
            config.merge_from_dict({key: value})
        except (
            KeyError,
            TypeError,
            AttributeError,
            AssertionError,
            ValueError,
        ) as error:
            raise PPCDError(
                f'--cfg-options {key}={value} does not fit the '
                f'config {name}: {error}'
            ) from error
    if not isinstance(config.get('model'), dict):
        raise PPCDError(f'The config {name} has no model.')


def _no_setting(name: str, config: Config) -> str:
    if name in config:
        return (
            f'nothing reads {name}, it is a value that the config is written '
            'with: change the settings that take it'
        )
    close = difflib.get_close_matches(name, SETTINGS, 1)
    return f'nothing reads {name}' + (f'; there is {close[0]}' if close else '')


def config_problems(
    config: Config, loops: Sequence[str] = ('train', 'val')
) -> List[str]:
    """Look for what would fail, or be taken for something else.

    Args:
        config (Config): Of a training, or of what was trained.
        loops (Sequence[str]): Which of 'train', 'val' and 'test' are to be
            run. Defaults to the first two.

    Returns:
        List[str]: One line for each: unknown parts, unknown arguments of
        parts, texts where numbers belong, values out of range, windows of
        pruning outside the training, hooks given twice, pictures of another
        size than the generator's.
    """
    missing = [
        key
        for loop in ('', *loops)
        for key in _NEEDED[loop]
        if not config.get(key)
    ]
    if missing:
        return [
            f'this is no config to {loops[0]}, it has no '
            f'{", ".join(missing)}: take one of configs/ as the base'
        ]
    whole = config.to_dict()
    settings = {
        key: whole[key]
        for loop in ('', *loops)
        for key in _BUILT[loop]
        if key in whole
    }
    # one line for each setting
    of_settings = {
        **dict(_range_problems(settings)),
        **dict(_argument_problems(settings)),
    }
    return [
        *of_settings.values(),
        *_hook_problems(settings),
        *_size_problems(settings),
    ]


def _parts(settings: dict) -> Iterator[Tuple[str, dict, List[Any]]]:
    """Names, settings and what may be meant by their type."""
    for name, node in walk(settings):
        if isinstance(node, dict) and isinstance(node.get('type'), str):
            yield name, node, _parts_called(node['type'])
    randomness = settings.get('randomness')
    if isinstance(randomness, dict):
        yield 'randomness', randomness, [set_random_seed]


def _argument_problems(settings: dict) -> Iterator[Tuple[str, str]]:
    for name, part, found in _parts(settings):
        if not found and not _NO_PARTS.search(name):
            yield (
                f'{name}.type',
                (
                    f'{name}.type: there is no part called {part["type"]}; parts '
                    'of your own are named in custom_imports'
                ),
            )
        for key, value in part.items():
            if key in ('type', '_scope_'):  # of bases in another scope
                continue
            # of parts of one name none must take it
            wrong = [_refusal(built, key, value) for built in found]
            if wrong and all(wrong):
                yield f'{name}.{key}', f'{name}.{key}{wrong[0]}'


def _refusal(part: Any, key: str, value: Any) -> str:
    """Why a part does not take a setting."""
    known, all_known = _parameters(part)
    if key not in known and all_known and _is_own(part):
        return (
            f': {part.__name__} has no such setting; it has '
            f'{", ".join(known) or "none"}'
        )
    wanted = _kind_wanted(known.get(key, ()), value)
    return wanted and (
        f'={value!r} must be {wanted}, not {type(value).__name__}'
    )


# what has a type, and is no part: words of MMagic's and MMEngine's own
_NO_PARTS = re.compile(r'vis_kwargs_list|clip_grad|init_cfg')


def _parts_called(kind: str) -> List[Any]:
    """All classes and functions of a name, whatever they are for."""
    found = []
    for registry in vars(mmagic_registry).values():
        if isinstance(registry, Registry):
            own = registry.children.get('ppcd_mmagic', registry)
            part = own.get(kind)
            if part is not None and part not in found:
                found.append(part)
    return found


def _parameters(built: Any) -> Tuple[Dict[str, tuple], bool]:
    """Arguments of a class or function with the kinds they may be, those
    passed on to its parents among them; and whether these are all."""
    known: Dict[str, tuple] = {}
    passed_on = False
    for owner in built.__mro__ if inspect.isclass(built) else (built,):
        init = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if init is None or init is object.__init__:
            continue
        try:
            hints = get_type_hints(init)
        except Exception:  # annotations of others may name what is not there
            hints = {}
        passed_on = False
        for key, parameter in inspect.signature(init).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                passed_on = True
            elif (
                key != 'self' and parameter.kind is not parameter.VAR_POSITIONAL
            ):
                hint = hints.get(key)
                kinds = get_args(hint) or (hint,)
                # a text that is the default says little of what else may be
                if hint is None and not isinstance(
                    parameter.default, (str, type(None))
                ):
                    kinds = (type(parameter.default),)
                known.setdefault(key, kinds)
        if not passed_on:
            break
    return known, not passed_on


def _kind_wanted(kinds: tuple, value: Any) -> str:
    """What a setting must be, where it is a text, a number or a truth
    instead."""
    numbers = [kind for kind in kinds if kind in (int, float)]
    if isinstance(value, str) and str not in kinds:
        if numbers:
            return 'a number'
        if bool in kinds:
            return 'True or False'
    if isinstance(value, bool) and numbers and bool not in kinds:
        return 'a number'
    if (
        isinstance(value, (bool, int, float))
        and str in kinds
        and set(kinds) <= {str, type(None)}
    ):
        return 'a text'
    return ''


def _range_problems(settings: dict) -> Iterator[Tuple[str, str]]:
    for name, value in walk(settings):
        key = name.split('.')[-1]
        if (
            key not in _LEAST
            or value is None
            or isinstance(value, (dict, list))
        ):
            continue
        least, whole = _LEAST[key]
        kind = 'a whole number' if whole else 'a number'
        allowed = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            yield name, f'{name}={value!r} must be {kind}'
        elif not value >= least and value == value:  # NaN is for the guard
            yield name, f'{name}={value} must be {kind} of at least {least}'


def _is_own(part: Any) -> bool:
    return part.__module__.startswith('ppcd_mmagic.')


def _hook_problems(settings: dict) -> Iterator[str]:
    hooks = hooks_of(settings)
    wrong = [
        place
        for place, hook in hooks.items()
        if not isinstance(hook, dict) or 'type' not in hook
    ]
    for place in wrong:
        hook = hooks.pop(place)
        yield (
            f'{place}={hook!r} is no hook, which has a type; those there are: '
            f'{", ".join(place for place in hooks if place not in wrong)}'
        )
    places: Dict[str, List[str]] = {}
    for place, hook in hooks.items():
        places.setdefault(kind_of(hook), []).append(place)
    for kind, found in places.items():
        if len(found) > 1 and any(map(_is_own, _parts_called(kind))):
            yield (
                f'{kind} is there {len(found)} times ({", ".join(found)}): '
                'keep one'
            )
    length = settings.get('train_cfg', {}).get('max_iters')
    if not isinstance(length, int) or length < 1:
        return
    for place in places.get('MaskBinarizationHook', ()):
        for key in ('begin', 'end'):
            value = hooks[place].get(key)
            if isinstance(value, int) and value > length:
                yield (
                    f'{place}.{key}={value} is beyond the end '
                    f'of the training: train_cfg.max_iters={length}; the '
                    'masks would not be pruned as far as alpha says'
                )


def _size_problems(settings: dict) -> Iterator[str]:
    generator = settings['model'].get('generator') or {}
    size = (
        generator.get('output_scale') if isinstance(generator, dict) else None
    )
    for name, dataset in _datasets(settings):
        found = dataset.get('size')
        for step in dataset.get('pipeline') or ():
            if isinstance(step, dict) and re.search(
                'Resize$', str(step.get('type'))
            ):
                scale = step.get('scale')
                found = scale[-1] if isinstance(scale, (list, tuple)) else found
        sizes = [s for s in (size, found) if isinstance(s, int) and s > 0]
        if len(sizes) == 2 and found != size:
            yield (
                f'{name}: pictures of {found} px, but the generator draws '
                f'{size} px: set model.generator.output_scale (and the '
                "discriminator's input_scale) or the data alike"
            )


def _datasets(settings: dict) -> Iterator[Tuple[str, dict]]:
    for key in settings:
        if key.endswith('_dataloader'):
            for loader in listed(settings[key]):  # MMagic's may be several
                yield key, loader.get('dataset') or {}
