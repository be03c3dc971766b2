"""From a trained, masked student to an ordinary, smaller generator."""
import inspect
from copy import deepcopy
from functools import partial
from typing import Any, Dict, Iterator, NamedTuple, Sequence

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict

from ppcd_mmagic.channels import (ChannelMask, ExportMismatch, complexity,
                                  discard_channels, largest_difference,
                                  layer_sizes, link_masks, named_masks,
                                  outputs_of)
from ppcd_mmagic.checkpoints import build_generator, build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import class_inputs, example_inputs
from ppcd_mmagic.registry import MODELS

TOLERANCE = 1e-5
# what a config needs beside the model to be tested by tools/test.py
_TEST_KEYS = ('test_dataloader', 'test_cfg', 'test_evaluator', 'visualizer',
              'vis_backends', 'env_cfg', 'randomness', 'log_level')
# what a model needs to infer; other parts fall back to their defaults
_INFERENCE_KEYS = ('generator', 'data_preprocessor', 'test_cfg')


class Export(NamedTuple):
    """Result of :func:`export_student`.

    Attributes:
        generator: The exported generator.
        config: Config that builds it, ``model`` and what testing needs.
        summary: Sizes before and after, and the largest difference.
    """
    generator: nn.Module
    config: Config
    summary: dict


def build_student(config: Config, checkpoint: str) -> nn.Module:
    """The student of a training config, EMA weights preferred, in eval mode.

    Raises:
        PPCDError: If the checkpoint does not exist or does not fit, or the
            generator has no masks.
    """
    student = build_trained_generator(config, checkpoint, 'student')
    if not any(True for _ in named_masks(student)):
        raise PPCDError('The generator of this config has no masks, there is '
                        'nothing to export: give the config of a student.')
    link_masks(student, example_inputs(student))
    return student


def export_student(config: Config,
                   checkpoint: str,
                   max_classes: int = 16) -> Export:
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
    """
    if max_classes < 2:
        raise PPCDError(f'max_classes={max_classes} must be at least 2: the '
                        'first and the last class are always compared.')
    student = build_student(config, checkpoint)
    slim = discard_channels(student, example_inputs(student))
    dense = _built(config, pruned_config(config.model, {}, slim))
    generator_cfg = pruned_config(config.model, _changed(dense, slim), slim)
    exported = _built(config, generator_cfg)
    exported.load_state_dict(slim.state_dict())

    probes = list(class_inputs(student, max_classes))
    difference = compare(student, exported, probes)
    one = example_inputs(exported, batch=1)
    summary = dict(
        before=complexity(dense, one),
        after=complexity(exported, one),
        max_difference=difference,
        classes_compared=len(probes),
        sparsity={name: m.sparsity
                  for name, m in named_masks(student)})
    return Export(exported, _export_config(config, generator_cfg), summary)


def _changed(dense: nn.Module, slim: nn.Module) -> dict:
    before = layer_sizes(dense)
    return {
        name: size
        for name, size in layer_sizes(slim).items() if size != before[name]
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
        layer_sizes=sizes)
    if hasattr(slim, 'input_shape'):
        config['input_shape'] = slim.input_shape
    return config


def _built(config: Config, generator_cfg: dict) -> nn.Module:
    """Another generator in place of the config's own."""
    model = ConfigDict(config.model, generator=generator_cfg)
    return build_generator(ConfigDict(model=model)).eval().requires_grad_(
        False)


def compare(student: nn.Module, exported: nn.Module,
            probes: Sequence[tuple]) -> float:
    """Largest difference between the images of two generators.

    Args:
        student (nn.Module): The one.
        exported (nn.Module): The other.
        probes (Sequence[tuple]): Inputs of one image each, as
            :func:`~ppcd_mmagic.generators.example_inputs` gives them.

    Raises:
        ExportMismatch: If it exceeds 1e-5, naming input and first layer.
    """
    worst = 0.0
    for number, inputs in enumerate(probes):
        difference = largest_difference(
            outputs_of(student, inputs), outputs_of(exported, inputs))
        if not difference <= TOLERANCE:
            what = f'class {int(inputs[-1]["label"])}' if inputs[
                -1] else f'input {number}'
            raise ExportMismatch(
                f'The export differs from the masked student by '
                f'{difference:.3g} (allowed: {TOLERANCE}) for {what}, first '
                f'at {_first_difference(student, exported, inputs)}; nothing '
                'was written.')
        worst = max(worst, difference)
    return worst


def _first_difference(student: nn.Module, exported: nn.Module,
                      inputs: Any) -> str:
    """The first masked convolution that differs. Discarded channels are zero
    in the student, so the sums over channels agree where all is well."""
    names = [
        name.removesuffix('.mask') for name, child in student.named_modules()
        if isinstance(child, ChannelMask)
    ]
    sums = [dict(_sums(g, names, inputs)) for g in (student, exported)]
    for name, expected in sums[0].items():
        found = sums[1].get(name)
        if found is None or not torch.allclose(
                expected, found, rtol=1e-4, atol=1e-4):
            return name
    return 'the output layer'


def _sums(generator: nn.Module, names: list, inputs: Any) -> Iterator[tuple]:
    """Outputs of layers, summed over channels, in the order of execution."""
    found: Dict[str, torch.Tensor] = {}

    def note(name: str, layer: nn.Module, args: tuple, out) -> None:
        found.setdefault(name, out.sum(1))

    handles = [
        generator.get_submodule(name).register_forward_hook(
            partial(note, name)) for name in names
    ]
    outputs_of(generator, inputs)
    for handle in handles:
        handle.remove()
    yield from found.items()


def _export_config(config: Config, generator_cfg: dict) -> Config:
    exported = dict(
        default_scope='ppcd_mmagic',
        custom_imports=dict(
            imports=['ppcd_mmagic'], allow_failed_imports=False),
        model=inference_config(config.model, generator_cfg))
    for key in _TEST_KEYS:
        if key in config:
            exported[key] = deepcopy(config[key])
    for metric in exported.get('test_evaluator', {}).get('metrics', []):
        metric['sample_model'] = 'orig'  # there is no EMA copy any more
    return Config(exported)


def inference_config(model: ConfigDict, generator_cfg: dict) -> dict:
    """A model's own config, with another generator, without the parts that
    only training needs (discriminator, teacher, losses, averages): those that
    the model can be built without."""
    optional = _optional_arguments(MODELS.get(model.type))
    inference = {
        key: deepcopy(value)
        for key, value in model.items()
        if key in _INFERENCE_KEYS or key not in optional
        or not isinstance(value, (dict, list))
    }
    return dict(inference, generator=generator_cfg)


def _optional_arguments(kind: type) -> set:
    """Arguments of a class, or of a parent that it hands them on to, that
    have a default."""
    return {
        name
        for parent in kind.__mro__ if '__init__' in vars(parent)
        for name, argument in inspect.signature(
            parent.__init__).parameters.items()
        if argument.default is not inspect.Parameter.empty
    }
