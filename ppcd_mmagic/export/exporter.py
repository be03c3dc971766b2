"""From a trained, masked student to an ordinary, smaller generator."""

import inspect
import os.path as osp
from copy import deepcopy
from functools import partial
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict

from ppcd_mmagic.channels import (
    ChannelMask,
    ExportMismatch,
    complexity,
    discard_channels,
    largest_difference,
    layer_sizes,
    link_masks,
    named_masks,
    outputs_of,
)
from ppcd_mmagic.channels.verification import require_same
from ppcd_mmagic.checkpoints import (
    build_generator,
    build_trained_generator,
    generator_names,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import metrics_of
from ppcd_mmagic.generators import class_inputs, example_inputs
from ppcd_mmagic.registry import METRICS, MODELS
from .description import describe_images

TOLERANCE = 1e-5
# images at once, enough for kernels that tiny maps of one image do not reach
BATCH = 8
# what a config needs beside the model to be tested by tools/test.py
_TEST_KEYS = (
    'test_dataloader',
    'test_cfg',
    'test_evaluator',
    'visualizer',
    'vis_backends',
    'env_cfg',
    'randomness',
    'log_level',
)
# files and folders in these
_PATH_KEYS = ('checkpoint', 'data_root', 'inception_path')
# what a model needs to infer; other parts fall back to their defaults
_INFERENCE_KEYS = ('generator', 'data_preprocessor', 'test_cfg')


class Export(NamedTuple):
    """Result of :func:`export_student`.

    Attributes:
        generators: The exported generators by their names in the model,
            'generator' where it has one.
        config: Config that builds it, ``model`` and what testing needs.
        summary: Sizes before and after, the largest difference, and what
            images are, see :func:`describe_images`.
    """

    generators: Dict[str, nn.Module]
    config: Config
    summary: dict

    @property
    def generator(self) -> nn.Module:
        """The exported generator, of several the first."""
        return next(iter(self.generators.values()))


def build_student(
    config: Config, checkpoint: str, name: str = 'generator'
) -> nn.Module:
    """The student of a training config, EMA weights preferred, in eval mode.

    Args:
        config (Config): Config it was trained with.
        checkpoint (str): Its checkpoint.
        name (str): Which of several generators. Defaults to 'generator'.

    Raises:
        PPCDError: If the checkpoint does not exist or does not fit, or the
            generator has no masks.

    Example:
        >>> student = build_student(Config.fromfile('student.py'), 'iter_800.pth')
        >>> any(parameter.requires_grad for parameter in student.parameters())
        True
    """
    student = build_trained_generator(config, checkpoint, 'student', name)
    if not any(True for _ in named_masks(student)):
        raise PPCDError(
            'The generator of this config has no masks, there is '
            'nothing to export: give the config of a student.'
        )
    link_masks(student, example_inputs(student))
    return student


def export_student(
    config: Config, checkpoint: str, max_classes: int = 16
) -> Export:
    """Export a trained student and prove that nothing changed.

    Args:
        config (Config): Config it was trained with.
        checkpoint (str): Its checkpoint.
        max_classes (int): Compare on at most so many classes, evenly spread;
            a generator without classes on so many inputs.

    Raises:
        ExportMismatch: If any image differs by more than 1e-5.
        PPCDError: If ``max_classes`` is less than 2, and see
            :func:`build_student`.

    Example:
        >>> config = Config.fromfile('student.py')
        >>> export = export_student(config, 'iter_800.pth', max_classes=4)
        >>> export.summary['max_difference'] <= 1e-5
        True
    """
    if max_classes < 2:
        raise PPCDError(
            f'max_classes={max_classes} must be at least 2: the '
            'first and the last class are always compared.'
        )
    names = generator_names(checkpoint, 'student')
    students = {name: build_student(config, checkpoint, name) for name in names}
    slim = {
        name: discard_channels(student, example_inputs(student))
        for name, student in students.items()
    }
    first = slim[names[0]]
    dense = _built(config, pruned_config(config.model, {}, first))
    generator_cfg = pruned_config(
        config.model,
        _widest([_changed(dense, part) for part in slim.values()], dense),
        first,
    )
    if len(names) > 1:
        generator_cfg['narrow_to_weights'] = True

    exported, differences, sparsity, channels = {}, [], {}, []
    for name, student in students.items():
        channels += str(
            link_masks(student, example_inputs(student))
        ).splitlines()
        exported[name] = _built(config, generator_cfg)
        exported[name].load_state_dict(slim[name].state_dict())
        probes = list(class_inputs(student, max_classes))
        # of several images at once other kernels may compute
        batch = example_inputs(student, batch=BATCH)
        differences.append(compare(student, exported[name], [*probes, batch]))
        require_same(student, exported[name], example_inputs(student))
        for conv, mask in named_masks(student):
            key = conv if len(names) == 1 else f'{name}.{conv}'
            sparsity[key] = mask.sparsity
    summary = dict(
        before=_total([dense] * len(names)),
        after=_total(exported.values()),
        max_difference=max(differences),
        classes_compared=len(probes),
        images=describe_images(config),
        sparsity=sparsity,
        channels=channels,
    )
    return Export(exported, _export_config(config, generator_cfg), summary)


def _total(generators: Iterable[nn.Module]) -> dict:
    """Complexity of generators together."""
    total: Dict[str, int] = {}
    for generator in generators:
        found = complexity(generator, example_inputs(generator, batch=1))
        for key, value in found.items():
            total[key] = total.get(key, 0) + value
    return total


def _widest(changed: List[dict], dense: nn.Module) -> dict:
    """Sizes that hold each of several generators, which the one config of a
    model builds; layers that one of them has whole are left out."""
    full = layer_sizes(dense)
    found = {}
    for name in changed[0]:
        size = tuple(
            map(max, zip(*(sizes.get(name, full[name]) for sizes in changed)))
        )
        if size != tuple(full[name]):
            found[name] = size
    return found


def _changed(dense: nn.Module, slim: nn.Module) -> dict:
    before = layer_sizes(dense)
    return {
        name: size
        for name, size in layer_sizes(slim).items()
        if size != before[name]
    }


def pruned_config(model: ConfigDict, sizes: dict, slim: nn.Module) -> dict:
    """Config that builds a model's generator without masks.

    Args:
        model (ConfigDict): Config of the model.
        sizes (dict): Sizes of the layers that are narrower than it says.
        slim (nn.Module): The generator without dead channels.
    """
    config = dict(
        type='ppcd_mmagic.PrunedGenerator',
        generator=deepcopy(model.generator),
        layer_sizes=sizes,
    )
    if hasattr(slim, 'input_shape'):
        config['input_shape'] = slim.input_shape
    return config


def _built(config: Config, generator_cfg: dict) -> nn.Module:
    """Another generator in place of the config's own."""
    model = ConfigDict(config.model, generator=generator_cfg)
    return build_generator(ConfigDict(model=model)).eval().requires_grad_(False)


def compare(
    student: nn.Module, exported: nn.Module, probes: Sequence[tuple]
) -> float:
    """Largest difference between the images of two generators.

    Args:
        student (nn.Module): The one.
        exported (nn.Module): The other.
        probes (Sequence[tuple]): Inputs as
            :func:`~ppcd_mmagic.generators.example_inputs` gives them.

    Raises:
        ExportMismatch: If it exceeds 1e-5, naming input and first layer.
        PPCDError: If the other one does not run.

    Example:
        >>> student = build_student(Config.fromfile('student.py'), 'iter_800.pth')
        >>> probes = list(class_inputs(student, 2))
        >>> compare(student, copy.deepcopy(student), probes)
        0.0
    """
    worst = 0.0
    for number, inputs in enumerate(probes):
        difference = largest_difference(
            outputs_of(student, inputs), _of_export(exported, number, inputs)
        )
        if not difference <= TOLERANCE:
            raise ExportMismatch(
                f'The export differs from the masked student by '
                f'{difference:.3g} (allowed: {TOLERANCE}) for '
                f'{_in_words(number, inputs)}, first '
                f'at {_first_difference(student, exported, inputs)}; nothing '
                'was written.'
            )
        worst = max(worst, difference)
    return worst


def _of_export(exported: nn.Module, number: int, inputs: tuple) -> list:
    try:
        return outputs_of(exported, inputs)
    except Exception as error:  # whatever its forward makes of fewer channels
        raise PPCDError(
            f'The export does not run for {_in_words(number, inputs)} '
            f'({type(error).__name__}: {error}); nothing was written.'
        ) from error


def _in_words(number: int, inputs: tuple) -> str:
    values, *_, given = inputs
    if len(values) > 1:
        return f'a batch of {len(values)}'
    return f'class {int(given["label"])}' if given else f'input {number}'


def _first_difference(
    student: nn.Module, exported: nn.Module, inputs: Any
) -> str:
    """The first masked layer that differs. Discarded channels are zero
    in the student, so the sums over channels agree where all is well."""
    names = [
        name.removesuffix('.mask')
        for name, child in student.named_modules()
        if isinstance(child, ChannelMask)
    ]
    sums = [dict(_sums(g, names, inputs)) for g in (student, exported)]
    for name, expected in sums[0].items():
        found = sums[1].get(name)
        if found is None or not torch.allclose(
            expected, found, rtol=1e-4, atol=1e-4
        ):
            return name
    return 'the output layer'


def _sums(generator: nn.Module, names: list, inputs: Any) -> Iterator[tuple]:
    """Outputs of layers, summed over channels, in the order of execution."""
    found: Dict[str, torch.Tensor] = {}

    def note(name: str, layer: nn.Module, args: tuple, out) -> None:
        # its kernel lies behind the channels, a linear layer has none
        behind = len(getattr(layer, 'kernel_size', ()))
        found.setdefault(name, out.sum(out.ndim - 1 - behind))

    handles = [
        generator.get_submodule(name).register_forward_hook(partial(note, name))
        for name in names
    ]
    outputs_of(generator, inputs)
    for handle in handles:
        handle.remove()
    yield from found.items()


def _export_config(config: Config, generator_cfg: dict) -> Config:
    exported = dict(
        default_scope='ppcd_mmagic',
        custom_imports=dict(
            imports=['ppcd_mmagic'], allow_failed_imports=False
        ),
        model=inference_config(config.model, generator_cfg),
    )
    for key in _TEST_KEYS:
        if key in config:
            exported[key] = _from_anywhere(deepcopy(config[key]))
    for metric in metrics_of(exported.get('test_evaluator')):
        kind = METRICS.get(metric['type'])
        # there is no EMA copy any more; PSNR knows of none
        if kind is None or 'sample_model' in _optional_arguments(kind):
            metric['sample_model'] = 'orig'
    return Config(exported)


def _from_anywhere(settings: Any) -> Any:
    """Files and folders that settings name from where the export is made, such
    as a judge's weights, are found when it is tested in another folder."""
    parts = settings if isinstance(settings, list) else [settings]
    for part in parts:
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if isinstance(value, (dict, list)):
                _from_anywhere(value)
            elif key in _PATH_KEYS and osp.exists(str(value)):
                part[key] = osp.abspath(value)
    return settings


def inference_config(model: ConfigDict, generator_cfg: dict) -> dict:
    """A model's own config, with another generator, without the parts that
    only training needs (discriminator, teacher, losses, averages): those that
    the model can be built without."""
    optional = _optional_arguments(MODELS.get(model.type))
    inference = {
        key: deepcopy(value)
        for key, value in model.items()
        if key in _INFERENCE_KEYS
        or key not in optional
        or not isinstance(value, (dict, list))
    }
    inference = dict(inference, generator=generator_cfg)
    for key, value in list(inference.items()):
        without = dict(inference, **{key: None})
        if (
            key not in _INFERENCE_KEYS
            and isinstance(value, dict)
            and _can_be_built(without)
        ):
            inference = without  # a translation takes no discriminator, too
    return inference


def _can_be_built(model: dict) -> bool:
    try:
        MODELS.build(deepcopy(model))
    except Exception:  # whatever a model finds wrong with None
        return False
    return True


def _optional_arguments(kind: type) -> set:
    """Arguments of a class, or of a parent that it hands them on to, that
    have a default."""
    return {
        name
        for parent in kind.__mro__
        if '__init__' in vars(parent)
        for name, argument in inspect.signature(
            vars(parent)['__init__']
        ).parameters.items()
        if argument.default is not inspect.Parameter.empty
    }
