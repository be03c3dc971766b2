"""One way to read weights: all that is asked for, and nothing but data."""

import logging
import math
import os
import os.path as osp
import pickle
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from torch import Tensor

from ppcd_mmagic.building import built_or_refused
from ppcd_mmagic.channels import fit_to_state, named_masks, narrow_to_state
from ppcd_mmagic.conversion import convert_foreign, project_of
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import local_file, refuse_changed
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS


def _prefixes(name: str) -> List[str]:
    """What the weights of a generator begin with in MMagic's checkpoints,
    most wanted first: those of its EMA copy, with and without the wrapper's
    own level, then the raw ones."""
    held, *key = name.split('.', 1)
    return [
        '.'.join([part, *key, ''])
        for part in (f'{held}_ema.module', f'{held}_ema', held)
    ]


def _statistic(owner: type, name: str) -> Any:
    """What MMEngine's history asks of ``getattr``, and no more."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(
        f'GLOBAL builtins.getattr was not allowed for {owner}.{name}'
    )


# What MMEngine's checkpoints hold beside tensors: the log's history, kept in
# arrays of numpy, whose names differ between its versions 1 and 2, and the
# steps of a learning rate.
_ALLOWED = {
    'collections.Counter': Counter,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    'builtins.getattr': _statistic,
    'numpy.ndarray': np.ndarray,
    'numpy.dtype': np.dtype,
}
for _name in ('_reconstruct', 'scalar'):
    for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        _ALLOWED[f'{_module}.{_name}'] = getattr(np.core.multiarray, _name)
for _type in map(type, map(np.dtype, ('f4', 'f8', 'i4', 'i8', '?'))):
    _ALLOWED[f'{_type.__module__}.{_type.__name__}'] = _type

# torch can be told of them since 2.6, which is also when it began to ask
_TORCH_TAKES_NAMES = digit_version(torch.__version__) >= digit_version('2.6')
if _TORCH_TAKES_NAMES:
    torch.serialization.add_safe_globals(
        [(value, name) for name, value in _ALLOWED.items()]
    )


class _Unpickler(pickle.Unpickler):
    """For older versions of torch: knows tensors and the names above."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace('__builtin__', 'builtins')  # Python 2's
        whole = f'{module}.{name}'
        if whole in _ALLOWED:
            return _ALLOWED[whole]
        is_tensor = (
            module == 'torch'
            and name.endswith('Storage')
            or module == 'torch._utils'
            and name in ('_rebuild_tensor_v2', '_rebuild_parameter')
            or whole in ('collections.OrderedDict', '_codecs.encode')
        )
        if not is_tensor:
            raise pickle.UnpicklingError(f'GLOBAL {whole} was not allowed')
        return super().find_class(module, name)


# torch.load, with which MMEngine reads, knew no safetensors for long
@CheckpointLoader.register_scheme(prefixes=r'.*\.safetensors$', force=True)
def load_from_safetensors(path: str, map_location: Any = None) -> Any:
    """For MMEngine's loader, and so for MMagic's ``init_model``."""
    from safetensors.torch import load_file

    return load_file(path)


def _load(path: str, map_location: Any) -> Any:
    if path.endswith('.safetensors'):
        return load_from_safetensors(path)
    if _TORCH_TAKES_NAMES:
        return torch.load(path, map_location=map_location, weights_only=True)
    return torch.load(
        path,
        map_location=map_location,
        weights_only=False,
        pickle_module=SimpleNamespace(
            __name__='pickle',
            Unpickler=_Unpickler,
            load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
        ),
    )


def read_checkpoint(
    path: Union[str, os.PathLike], role: str, map_location: Any = 'cpu'
) -> Dict[str, Any]:
    """What a checkpoint holds; nothing in it is executed.

    Args:
        path (str | PathLike): File of torch, or its address (see
            :func:`local_file`), with or without MMEngine's history, or
            ``.safetensors``, which is read to the CPU.
        role (str): What it is the checkpoint of, for the messages: 'teacher'.
        map_location: As in ``torch.load``. Defaults to 'cpu'.

    Raises:
        PPCDError: If there is no such file, it cannot be read, holds objects
            beside data, or values that are not finite, or it is not the one
            that the summary of its export names.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise PPCDError(
            f'The {role} checkpoint is {path!r}: name a file, or an address.'
        )
    path = local_file(os.fspath(path))
    if '://' in path:
        raise PPCDError(
            f'The {role} checkpoint "{path}" cannot be fetched: addresses '
            'begin with http:// or https://. Download it and name the file.'
        )
    if not osp.isfile(path):
        what = 'is a folder' if osp.isdir(path) else 'does not exist'
        raise PPCDError(
            f'The {role} checkpoint "{path}" {what} (looked for '
            f'{osp.abspath(path)}).'
        )
    if path.endswith(('.onnx', '.pt2')):
        raise PPCDError(
            f'The {role} checkpoint {path} is a program, not weights: give '
            'the .pth or .safetensors of the same export.'
        )
    refuse_changed(path)
    try:
        checkpoint = _load(path, map_location)
    except MemoryError:
        raise
    except Exception as error:  # torch has many for broken files
        objects = re.search(r'GLOBAL (\S+) (was not|whose module)', str(error))
        if objects:
            raise PPCDError(
                f'The {role} checkpoint {path} holds objects beside weights '
                f'({objects[1]}), which could run anything. If you trust its '
                'source, convert it once: python -c "import torch; c = '
                f"torch.load('{path}', map_location='cpu', "
                'weights_only=False); s = c.state_dict() if hasattr(c, '
                "'state_dict') else c.get('state_dict', c); "
                "torch.save(dict(state_dict=s), 'weights.pth')\""
            ) from error
        raise PPCDError(
            f'The {role} checkpoint {path} cannot be read: it is truncated or '
            'no checkpoint of torch, copy it again '
            f'({type(error).__name__}).'
        ) from error
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise PPCDError(
            f'The {role} checkpoint {path} holds no weights: expected tensors '
            'by name, at its top or as "state_dict".'
        )
    wrong = first_not_finite(checkpoint)
    if wrong is not None:
        raise PPCDError(
            f'The {role} checkpoint {path} is spoilt: {wrong} has values that '
            'are not finite. Take one from before the training diverged.'
        )
    return checkpoint


def first_not_finite(checkpoint: Dict[str, Any]) -> Optional[str]:
    """Name of the first tensor with NaN or infinity, such as
    'generator.to_rgb.conv.weight' or 'optimizer.generator.state.3.exp_avg'."""
    for name, value in _tensors(checkpoint):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name.removeprefix('state_dict.')
    return None


def _tensors(node: Any, name: str = '') -> Iterator[Tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, (dict, list, tuple)):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield from _tensors(value, f'{name}.{key}' if name else str(key))


# what MMEngine's runner looks for in order to go on
RESUMED = {'meta', 'message_hub', 'optimizer'}


def newest_checkpoint(work_dir: str) -> Optional[str]:
    """The newest checkpoint of a training that is whole; those that are not
    are named in the log.

    It is the one that ``last_checkpoint`` names, or else the one before it;
    if there is no such file, that of the last iteration.

    Args:
        work_dir (str): Where it was trained.

    Returns:
        str | None: Its path; None where nothing was saved.

    Raises:
        PPCDError: If there are checkpoints, but none is whole.
    """
    found = _saved_in(work_dir)
    for path in found:
        try:
            missing = RESUMED - read_checkpoint(path, 'last').keys()
        except PPCDError as error:
            print_log(
                f'{error} Going back to the one before.',
                'current',
                logging.WARNING,
            )
        else:
            if not missing:
                return path
            print_log(
                f'{path} holds weights alone. Going back to the one before.',
                'current',
                logging.WARNING,
            )
    if found or osp.exists(osp.join(work_dir, 'last_checkpoint')):
        raise PPCDError(
            f'None of the checkpoints in {work_dir} is whole ('
            f'{", ".join(map(osp.basename, found)) or "all are deleted"}): '
            'give one with --resume PATH, or begin again with --overwrite.'
        )
    return None


def _saved_in(work_dir: str) -> List[str]:
    """Checkpoints of a training, in the order of their trustworthiness."""
    steps = {}
    if osp.isdir(work_dir):
        for name in os.listdir(work_dir):
            match = re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', name)
            if match:
                steps[osp.join(work_dir, name)] = int(match[1])
    newest_first = sorted(steps, key=lambda path: steps[path], reverse=True)
    last = last_checkpoint(work_dir)
    if last is None:
        return newest_first
    # later ones are of a training that was given up in favour of this one
    step = steps.get(last, math.inf)
    return [
        last,
        *(p for p in newest_first if steps[p] < step),
        *(p for p in newest_first if steps[p] > step),
    ]


def last_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint that a training wrote last, where it is there.

    The file ``last_checkpoint`` names it relative to the work directory;
    older ones have a path, which may be that of a copy's original.
    """
    pointer = osp.join(work_dir, 'last_checkpoint')
    if not osp.isfile(pointer):
        return None
    with open(pointer, errors='replace') as file:
        name = file.read().strip()
    for path in (
        osp.join(work_dir, osp.basename(name)),
        osp.join(work_dir, name),
    ):
        if osp.isfile(path):
            return path
    return None


def rename_to_fit(
    state: Dict[str, Tensor], wanted: Dict[str, Tensor]
) -> Dict[str, Tensor]:
    """Without the names of wrappers: MMEngine's distributed trainings write
    'generator.module.x' where the model's own name is 'generator.x'."""

    def own(key: str) -> str:
        short = key.removeprefix('module.').replace('.module.', '.', 1)
        return short if key not in wanted and short in wanted else key

    return {own(key): value for key, value in state.items()}


def check_fit(
    state: Dict[str, Tensor],
    wanted: Dict[str, Tensor],
    role: str,
    path: str,
    model: str,
) -> None:
    """Refuse weights of another model.

    Args:
        state (dict): Weights by name.
        wanted (dict): Those of the model; the counters of batch norms may be
            absent from ``state``.
        role, path, model (str): For the message.

    Raises:
        PPCDError: If keys are missing, unknown or of another shape.
    """
    problems = _differences(state, wanted)
    if problems:
        raise PPCDError(
            f'The {role} checkpoint {path} does not fit {model}: '
            f'{"; ".join(problems)}. Use the config that the {role} was '
            'trained with.'
        )


def load_weights(model: nn.Module, path: str, role: str) -> None:
    """Load weights from a checkpoint, all of them or none.

    Args:
        model (nn.Module): Usually a generator.
        path (str): Checkpoint of MMagic (of a whole GAN its generator is
            taken, EMA weights preferred), or of another project, see
            :func:`convert_foreign`.
        role (str): What the model is, for the messages: 'teacher'.

    Raises:
        PPCDError: See :func:`read_checkpoint` and :func:`check_fit`.
    """
    state = _state_in(path, role)
    project = project_of(state)
    if project and getattr(model, 'rgb2bgr', None) is False:
        print_log(
            f'The {role} checkpoint {path} is of {project}, whose images are '
            "RGB; MMagic's are BGR: set rgb2bgr=True in the generator's "
            'config, unless your data are RGB.',
            'current',
            logging.WARNING,
        )
    _load_state(model, _weights_of(state, 'generator'), path, role)


def _load_state(
    model: nn.Module, state: Dict[str, Tensor], path: str, role: str
) -> None:
    wanted = model.state_dict()
    check_fit(state, wanted, role, path, type(model).__name__)
    model.load_state_dict({**wanted, **state})


@built_or_refused('the generator')
def build_generator(config: Config) -> nn.Module:
    """The generator of a GAN's config, with what MMagic's models hand to the
    generator they build."""
    model = config.model
    defaults = {
        key: model[key]
        for key in ('noise_size', 'num_classes')
        if model.get(key) is not None
    }
    return MODELS.build(model.generator, default_args=defaults)


def build_trained_generator(
    config: Config, checkpoint: str, role: str, name: str = 'generator'
) -> nn.Module:
    """The generator of a GAN's config with its trained weights, in eval mode.

    Nothing else of the GAN is built, so no teacher and no data are needed.

    Args:
        config (Config): A training config, or one that was exported.
        checkpoint (str): See :func:`load_weights`.
        role (str): What the generator is, for the messages.
        name (str): See :func:`generator_names`. Defaults to 'generator'.
    """
    generator = build_generator(config)
    state = read_weights(checkpoint, role, name)
    if any(True for _ in named_masks(generator)):
        fit_to_state(generator, example_inputs(generator), state)
    elif config.model.generator.get('narrow_to_weights'):
        narrow_to_state(generator, state)
    _load_state(generator, state, checkpoint, role)
    return generator.eval()


def generator_names(path: str, role: str) -> List[str]:
    """What the generators are called whose weights a checkpoint holds:
    ['generator'], or ['generators.photo', 'generators.mask'] of a model that
    has one for each domain."""
    several = (
        key.split('.')[:2]
        for key in _state_in(path, role)
        if key.startswith('generators.')
    )
    return list(dict.fromkeys(map('.'.join, several))) or ['generator']


def _state_in(path: str, role: str) -> Dict[str, Tensor]:
    checkpoint = read_checkpoint(path, role)
    state = checkpoint.get('state_dict', checkpoint)
    # distributed trainings keep the wrapper's level in the names
    return {
        re.sub(r'^(generators?)\.module\.', r'\1.', key): value
        for key, value in state.items()
    }


def read_weights(
    path: str, role: str, name: str = 'generator'
) -> Dict[str, Tensor]:
    """The state dict that :func:`load_weights` loads."""
    return _weights_of(_state_in(path, role), name)


def _weights_of(state: Dict[str, Tensor], name: str) -> Dict[str, Tensor]:
    if project_of(state):
        return convert_foreign(state)
    for prefix in _prefixes(name):
        if any(key.startswith(prefix) for key in state):
            return {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix) and key != f'{prefix}steps'
            }
    return state


def _differences(state: dict, wanted: dict) -> list:
    optional = 'num_batches_tracked'
    missing = [k for k in wanted if k not in state and optional not in k]
    unexpected = [k for k in state if k not in wanted]
    reshaped = [
        f'{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}'
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    found = (
        ('missing', missing),
        ('unexpected', unexpected),
        ('of another shape', reshaped),
    )
    return [
        f'{len(keys)} keys {what} ({", ".join(keys[:3])}'
        f'{", ..." if len(keys) > 3 else ""})'
        for what, keys in found
        if keys
    ]
