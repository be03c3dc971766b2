"""Files an exported generator can be written to.

``torch.export`` and ONNX take the graph that :func:`ppcd_mmagic.tracing.trace`
finds, so there is no second forward function. Noise and label are inputs, the
batch is dynamic, and a label out of range is an error in every format.
"""
import os.path as osp
from contextlib import redirect_stdout
from io import StringIO
from typing import Dict

import numpy as np
import torch
import torch.nn as nn
from mmengine.config import Config
from torch import Tensor

from ppcd_mmagic.registry import MODELS
from ppcd_mmagic.tracing import trace

# ONNX Runtime orders and fuses its sums in its own way
TORCH_TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-4


class FormatMismatch(RuntimeError):
    """A written file does not compute what the generator computes."""


class _Graph(nn.Module):
    """A generator as a plain function of noise and label."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.num_classes = generator.num_classes
        self.generator = trace(generator)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        torch._assert_async(
            ((label >= 0) & (label < self.num_classes)).all(),
            f'label out of range: it must be from 0 to {self.num_classes - 1}')
        # ONNX has no assertions. Its Gather refuses an index past the end,
        # but counts negative ones from the end: send them past it.
        label = torch.where(label < 0, self.num_classes, label)
        return self.generator(noise, label)


def _program(generator: nn.Module) -> torch.export.ExportedProgram:
    batch = torch.export.Dim('batch', min=1)
    # not of size 1, which torch.export would take for a constant
    example = _probe(generator, 2)
    return torch.export.export(
        _Graph(generator).eval(),
        tuple(example.values()),
        dynamic_shapes={name: {0: batch}
                        for name in example})


def _probe(generator: nn.Module, count: int) -> Dict[str, Tensor]:
    return dict(
        noise=torch.randn(
            count,
            generator.noise_size,
            generator=torch.Generator().manual_seed(0)),
        label=torch.linspace(0, generator.num_classes - 1, count).long())


def save_mmagic(generator: nn.Module, out_dir: str) -> None:
    """``generator.pth``, for MMagic's ``init_model`` beside ``config.py``."""
    path = osp.join(out_dir, 'generator.pth')
    state = {
        f'generator.{key}': value
        for key, value in generator.state_dict().items()
    }
    torch.save(dict(state_dict=state), path)
    state = torch.load(path, weights_only=True)['state_dict']
    _check_state(generator, out_dir, {
        key.removeprefix('generator.'): value
        for key, value in state.items()
    }, path)


def save_torch_export(generator: nn.Module, out_dir: str) -> None:
    """``generator.pt2``, for ``torch.export.load``."""
    path = osp.join(out_dir, 'generator.pt2')
    torch.export.save(_program(generator), path)
    loaded = torch.export.load(path).module()
    _check(generator, loaded, TORCH_TOLERANCE, path)


def save_onnx(generator: nn.Module, out_dir: str) -> None:
    """``generator.onnx``, checked under ONNX Runtime.

    Raises:
        FormatMismatch: If images of ONNX Runtime differ by more than 1e-4.
        ImportError: If onnx, onnxscript or onnxruntime is missing.
    """
    import onnxruntime
    path = osp.join(out_dir, 'generator.onnx')
    with redirect_stdout(StringIO()):  # progress
        program = torch.onnx.export(
            _program(generator), dynamo=True, verbose=False)
    for value, name in zip(program.model.graph.outputs, ['image']):
        value.name = name
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider'])

    def run(noise: Tensor, label: Tensor) -> Tensor:
        arrays = dict(noise=noise.numpy(), label=label.numpy())
        return torch.from_numpy(np.asarray(session.run(None, arrays)[0]))

    _check(generator, run, ONNX_TOLERANCE, path)


def save_safetensors(generator: nn.Module, out_dir: str) -> None:
    """``generator.safetensors``: the state dict of the generator that
    ``config.py`` builds."""
    from safetensors.torch import load_file, save_file
    path = osp.join(out_dir, 'generator.safetensors')
    save_file(generator.state_dict(), path)
    _check_state(generator, out_dir, load_file(path), path)


FORMATS = dict(
    mmagic=save_mmagic,
    torch_export=save_torch_export,
    onnx=save_onnx,
    safetensors=save_safetensors)


@torch.no_grad()
def _check(generator: nn.Module, written, tolerance: float,
           path: str) -> None:
    for count in (1, 16):  # neither is the batch of the example
        inputs = _probe(generator, count)
        expected = generator(inputs['noise'], label=inputs['label'])
        difference = float((written(*inputs.values()) - expected).abs().max())
        if not difference <= tolerance:
            raise FormatMismatch(
                f'{path} differs from the generator by {difference:.3g} '
                f'(allowed: {tolerance}); do not use it.')


def _check_state(generator: nn.Module, out_dir: str,
                 state: Dict[str, Tensor], path: str) -> None:
    """Check a written state dict in what the written config builds."""
    config = Config.fromfile(osp.join(out_dir, 'config.py'))
    with torch.device('meta'):
        built = MODELS.build(config.model.generator).eval()
    built.load_state_dict(state, assign=True)
    _check(generator, lambda noise, label: built(noise, label=label),
           TORCH_TOLERANCE, path)
