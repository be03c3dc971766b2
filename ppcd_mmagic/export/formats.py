"""Files an exported generator can be written to.

What images are (range of values, order of channels, names of classes) stands
in each file, and a label out of range is an error in every format.
"""

import json
import os.path as osp
from contextlib import redirect_stdout
from functools import partial
from importlib.util import find_spec
from io import StringIO
from typing import Any, Callable, Dict, Iterator, NamedTuple, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.utils import digit_version
from torch import Tensor

from ppcd_mmagic.channels import largest_difference
from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.onnx_generator import OnnxGenerator
from .graphs import TORCH_TOLERANCE, call_by_name, file_inputs, program_of

# ONNX Runtime orders and fuses its sums in its own way
ONNX_TOLERANCE = 1e-4

# by their names in the model
Generators = Dict[str, nn.Module]
# what images are, see describe_images
Description = Dict[str, Any]


class FormatMismatch(PPCDError):
    """A written file does not compute what the generator computes."""


def _paths(
    generators: Generators, out_dir: str, ending: str
) -> Iterator[Tuple[nn.Module, str]]:
    """A file for each generator: ``generator.pt2``, or the names of several,
    such as ``generators.photo.pt2``."""
    for name, generator in generators.items():
        stem = name if len(generators) > 1 else 'generator'
        yield generator, osp.join(out_dir, f'{stem}.{ending}')


def _state(generators: Generators) -> Dict[str, Tensor]:
    """All weights, by their names in the model, laid out as torch makes them:
    safetensors knows no other layout."""
    return {
        f'{name}.{key}': value.contiguous()
        for name, generator in generators.items()
        for key, value in generator.state_dict().items()
    }


def _check_config(generators: Generators, path: str) -> None:
    """The config beside a file builds what the file holds."""
    config = Config.fromfile(osp.join(osp.dirname(path), 'config.py'))
    for name, generator in generators.items():
        built = build_trained_generator(config, path, 'exported', name)
        _check(generator, partial(call_by_name, built), TORCH_TOLERANCE, path)


def save_mmagic(
    generators: Generators, out_dir: str, images: Description
) -> None:
    """``generator.pth``, for MMagic's ``init_model`` beside ``config.py``."""
    path = osp.join(out_dir, 'generator.pth')
    torch.save(
        dict(state_dict=_state(generators), meta=dict(images=images)), path
    )
    _check_config(generators, path)


def save_safetensors(
    generators: Generators, out_dir: str, images: Description
) -> None:
    """``generator.safetensors``: the weights of ``generator.pth``."""
    from safetensors.torch import save_file

    path = osp.join(out_dir, 'generator.safetensors')
    save_file(_state(generators), path, metadata=dict(_texts(images)))
    _check_config(generators, path)


def save_torch_export(
    generators: Generators, out_dir: str, images: Description
) -> None:
    """``generator.pt2``, for ``torch.export.load``."""
    for generator, path in _paths(generators, out_dir, 'pt2'):
        torch.export.save(
            program_of(generator), path, extra_files=dict(_texts(images))
        )
        loaded = torch.export.load(path).module()
        _check(
            generator, lambda inputs: loaded(**inputs), TORCH_TOLERANCE, path
        )


def save_onnx(
    generators: Generators, out_dir: str, images: Description
) -> None:
    """``generator.onnx``, checked under ONNX Runtime.

    Raises:
        FormatMismatch: If images of ONNX Runtime differ by more than 1e-4.
    """
    for generator, path in _paths(generators, out_dir, 'onnx'):
        _save_onnx(generator, path, images)


def _save_onnx(generator: nn.Module, path: str, images: Description) -> None:
    with redirect_stdout(StringIO()):  # progress
        program = torch.onnx.export(
            program_of(generator, folded=True), dynamo=True
        )
    graph = program.model.graph
    for value, name in zip(graph.outputs, ['image']):
        value.name = name
    for value in (*graph.inputs, *graph.outputs):
        value.shape[0] = 'batch'  # torch calls it s30, say
    program.model.metadata_props.update(_texts(images))
    program.save(path, external_data=False)
    _check(
        generator,
        partial(call_by_name, OnnxGenerator(path)),
        ONNX_TOLERANCE,
        path,
    )


def _texts(images: Description) -> Iterator[Tuple[str, str]]:
    for key, value in images.items():
        yield key, value if isinstance(value, str) else json.dumps(value)


class Format(NamedTuple):
    """How a generator is written, and what it takes.

    Attributes:
        save: Writes the files into a folder that has the export's config.
        packages: That must be installed.
        torch: The oldest version that can do it.
    """

    save: Callable[[Generators, str, Description], None]
    packages: Tuple[str, ...] = ()
    torch: str = '2.1'


FORMATS = dict(
    mmagic=Format(save_mmagic),
    torch_export=Format(save_torch_export, torch='2.5'),
    onnx=Format(save_onnx, ('onnx', 'onnxscript', 'onnxruntime'), torch='2.6'),
    safetensors=Format(save_safetensors, ('safetensors',)),
)


def check_formats(names: Sequence[str]) -> None:
    """Refuse what cannot be written here.

    Args:
        names (Sequence[str]): Of ``FORMATS``.

    Raises:
        PPCDError: If a format is unknown, or needs a package that is missing
            or a newer torch.

    Example:
        >>> check_formats(['mmagic', 'tflite'])
        Traceback (most recent call last):
        ppcd_mmagic.errors.PPCDError: ...
    """
    for name in names:
        if name not in FORMATS:
            raise PPCDError(
                f'There is no format "{name}": choose from '
                f'{", ".join(FORMATS)}.'
            )
        needs = FORMATS[name]
        if digit_version(torch.__version__) < digit_version(needs.torch):
            raise PPCDError(
                f'The format {name} needs torch {needs.torch} or newer, and '
                f'this is {torch.__version__}: export as mmagic or '
                'safetensors, and write it where torch is newer.'
            )
        missing = [pkg for pkg in needs.packages if find_spec(pkg) is None]
        if missing:
            raise PPCDError(
                f'The format {name} needs {", ".join(missing)}: '
                'install ppcd_mmagic[export].'
            )


@torch.no_grad()
def _check(
    generator: nn.Module, written: Callable, tolerance: float, path: str
) -> None:
    for count in (1, 16):  # neither is the batch of the example
        inputs = file_inputs(generator, count)
        difference = largest_difference(
            [call_by_name(generator, inputs)], [written(inputs)]
        )
        if not difference <= tolerance:
            raise FormatMismatch(
                f'{osp.basename(path)} differs from the generator by '
                f'{difference:.3g} (allowed: {tolerance}); it was not kept.'
            )
