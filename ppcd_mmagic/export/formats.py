"""Files an exported generator can be written to.

``torch.export`` and ONNX take the generator's own forward function. Its
arguments are the inputs, the batch is dynamic, and a label out of range is an
error in every format.
"""
import os.path as osp
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import Callable, Dict, Iterator, Tuple

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from torch import Tensor

from ppcd_mmagic.channels import largest_difference
from ppcd_mmagic.checkpoints import build_generator, build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import example_inputs

# ONNX Runtime orders and fuses its sums in its own way
TORCH_TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-4

# by their names in the model
Generators = Dict[str, nn.Module]


class FormatMismatch(PPCDError):
    """A written file does not compute what the generator computes."""


class _Labelled(nn.Module):
    """A class-conditional generator as a plain function."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.num_classes = generator.num_classes
        self.generator = generator

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        torch._assert_async(
            ((label >= 0) & (label < self.num_classes)).all(),
            f'label out of range: it must be from 0 to {self.num_classes - 1}')
        # ONNX has no assertions. Its Gather refuses an index past the end,
        # but counts negative ones from the end: send them past it.
        label = torch.where(label < 0, self.num_classes, label)
        return self.generator(noise, label=label)


class _Unlabelled(nn.Module):
    """A generator of one input as a plain function."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, input: Tensor) -> Tensor:
        return self.generator(input)


def _program(generator: nn.Module) -> torch.export.ExportedProgram:
    # not of size 1, which torch.export would take for a constant
    inputs = _inputs(generator, 2)
    batch = torch.export.Dim('batch', min=1)
    plain = _Labelled if 'label' in inputs else _Unlabelled
    return torch.export.export(
        plain(generator).eval(),
        tuple(inputs.values()),
        dynamic_shapes={name: {
            0: batch
        }
                        for name in inputs},
        strict=False)


def _inputs(generator: nn.Module, count: int) -> Dict[str, Tensor]:
    """Inputs by the names they have in the files."""
    values, labels = example_inputs(generator, count)
    if not labels:
        return dict(input=values)
    label = torch.linspace(0, generator.num_classes - 1, count).long()
    return dict(noise=values, label=label)


def _paths(generators: Generators, out_dir: str,
           ending: str) -> Iterator[Tuple[nn.Module, str]]:
    """A file for each generator: ``generator.pt2``, or the names of several,
    such as ``generators.photo.pt2``."""
    for name, generator in generators.items():
        stem = name if len(generators) > 1 else 'generator'
        yield generator, osp.join(out_dir, f'{stem}.{ending}')


def save_mmagic(generators: Generators, out_dir: str) -> None:
    """``generator.pth``, for MMagic's ``init_model`` beside ``config.py``."""
    path = osp.join(out_dir, 'generator.pth')
    state = {
        f'{name}.{key}': value
        for name, generator in generators.items()
        for key, value in generator.state_dict().items()
    }
    torch.save(dict(state_dict=state), path)
    config = Config.fromfile(osp.join(out_dir, 'config.py'))
    for name, generator in generators.items():
        built = build_trained_generator(config, path, 'exported', name)
        _check(generator, partial(_call, built), TORCH_TOLERANCE, path)


def save_torch_export(generators: Generators, out_dir: str) -> None:
    """``generator.pt2``, for ``torch.export.load``."""
    for generator, path in _paths(generators, out_dir, 'pt2'):
        torch.export.save(_program(generator), path)
        loaded = torch.export.load(path).module()
        _check(generator, lambda inputs: loaded(*inputs.values()),
               TORCH_TOLERANCE, path)


def save_onnx(generators: Generators, out_dir: str) -> None:
    """``generator.onnx``, checked under ONNX Runtime.

    Raises:
        FormatMismatch: If images of ONNX Runtime differ by more than 1e-4.
        ImportError: If onnx, onnxscript or onnxruntime is missing.
    """
    for generator, path in _paths(generators, out_dir, 'onnx'):
        _save_onnx(generator, path)


def _save_onnx(generator: nn.Module, path: str) -> None:
    import onnxruntime
    with redirect_stdout(StringIO()):  # progress
        program = torch.onnx.export(
            _program(generator), dynamo=True, verbose=False)
    for value, name in zip(program.model.graph.outputs, ['image']):
        value.name = name
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider'])

    def run(inputs: Dict[str, Tensor]) -> Tensor:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(np.asarray(session.run(None, arrays)[0]))

    _check(generator, run, ONNX_TOLERANCE, path)


def save_safetensors(generators: Generators, out_dir: str) -> None:
    """``generator.safetensors``: the state dict of the generator that
    ``config.py`` builds."""
    from safetensors.torch import load_file, save_file
    config = Config.fromfile(osp.join(out_dir, 'config.py'))
    for generator, path in _paths(generators, out_dir, 'safetensors'):
        save_file(generator.state_dict(), path)
        built = build_generator(config).eval()
        built.load_state_dict(load_file(path))
        _check(generator, partial(_call, built), TORCH_TOLERANCE, path)


FORMATS = dict(
    mmagic=save_mmagic,
    torch_export=save_torch_export,
    onnx=save_onnx,
    safetensors=save_safetensors)


@torch.no_grad()
def _check(generator: nn.Module, written: Callable, tolerance: float,
           path: str) -> None:
    for count in (1, 16):  # neither is the batch of the example
        inputs = _inputs(generator, count)
        difference = largest_difference([_call(generator, inputs)],
                                        [written(inputs)])
        if not difference <= tolerance:
            raise FormatMismatch(
                f'{osp.basename(path)} differs from the generator by '
                f'{difference:.3g} (allowed: {tolerance}); it was not kept.')


def _call(generator: nn.Module, inputs: Dict[str, Tensor]) -> Tensor:
    """A generator on the inputs of a file."""
    inputs = dict(inputs)
    first = inputs.pop('noise' if 'noise' in inputs else 'input')
    return generator(first, **inputs)
