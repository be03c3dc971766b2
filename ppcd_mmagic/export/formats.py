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
from .compilation import compile_package, require_compiler
from .graphs import TORCH_TOLERANCE, call_by_name, file_inputs, program_of
from .precision import HALF, FormatMismatch, Precision, cost_of, reduce_onnx

# ONNX Runtime orders and fuses its sums in its own way
ONNX_TOLERANCE = 1e-4

# by their names in the model
Generators = Dict[str, nn.Module]
# what images are, see describe_images
Description = Dict[str, Any]
# by file, see cost_of
Costs = Dict[str, Dict[str, Any]]
FLOAT = Precision()


def _paths(
    generators: Generators, out_dir: str, ending: str, precision: Precision
) -> Iterator[Tuple[nn.Module, str]]:
    """A file for each generator: ``generator.pt2``, or the names of several,
    such as ``generators.photo.pt2``; ``generator.bf16.pt2``."""
    if precision.name != 'fp32':
        ending = f'{precision.name}.{ending}'
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
        run = partial(call_by_name, built)
        _check(generator, run, TORCH_TOLERANCE, path, FLOAT)


def save_mmagic(
    generators: Generators,
    out_dir: str,
    images: Description,
    precision: Precision = FLOAT,
) -> Costs:
    """``generator.pth``, for MMagic's ``init_model`` beside ``config.py``."""
    path = osp.join(out_dir, 'generator.pth')
    torch.save(
        dict(state_dict=_state(generators), meta=dict(images=images)), path
    )
    _check_config(generators, path)
    return {}


def save_safetensors(
    generators: Generators,
    out_dir: str,
    images: Description,
    precision: Precision = FLOAT,
) -> Costs:
    """``generator.safetensors``: the weights of ``generator.pth``."""
    from safetensors.torch import save_file

    path = osp.join(out_dir, 'generator.safetensors')
    save_file(_state(generators), path, metadata=dict(_texts(images)))
    _check_config(generators, path)
    return {}


def save_torch_export(
    generators: Generators,
    out_dir: str,
    images: Description,
    precision: Precision = FLOAT,
) -> Costs:
    """``generator.pt2``, for ``torch.export.load``."""
    costs: Costs = {}
    for generator, path in _paths(generators, out_dir, 'pt2', precision):
        torch.export.save(
            program_of(
                generator, folded=True, merged=True, dtype=_dtype(precision)
            ),
            path,
            extra_files=dict(_texts(images)),
        )
        loaded = torch.export.load(path).module()
        costs.update(
            _check(
                generator,
                lambda inputs: loaded(**inputs),
                TORCH_TOLERANCE,
                path,
                precision,
            )
        )
    return costs


def save_onnx(
    generators: Generators,
    out_dir: str,
    images: Description,
    precision: Precision = FLOAT,
) -> Costs:
    """``generator.onnx``, checked under ONNX Runtime.

    Raises:
        FormatMismatch: If images of ONNX Runtime differ by more than 1e-4.
    """
    costs: Costs = {}
    for generator, path in _paths(generators, out_dir, 'onnx', precision):
        # there are no transposed convolutions in int8
        _save_onnx(generator, path, images, merged=precision.name != 'int8')
        if precision.name != 'fp32':
            reduce_onnx(path, precision.name, generator, dict(_texts(images)))
        run = partial(call_by_name, OnnxGenerator(path))
        costs.update(_check(generator, run, ONNX_TOLERANCE, path, precision))
    return costs


def _save_onnx(
    generator: nn.Module, path: str, images: Description, merged: bool
) -> None:
    with redirect_stdout(StringIO()):  # progress
        program = torch.onnx.export(
            program_of(generator, folded=True, merged=merged), dynamo=True
        )
    assert program is not None  # as it is without dynamo
    graph: Any = program.model.graph
    for value, name in zip(graph.outputs, ['image']):
        value.name = name
    for value in (*graph.inputs, *graph.outputs):
        value.shape[0] = 'batch'  # torch calls it s30, say
    program.model.metadata_props.update(_texts(images))
    program.save(path, external_data=False)


def save_aoti(
    generators: Generators,
    out_dir: str,
    images: Description,
    precision: Precision = FLOAT,
) -> Costs:
    """``generator.aoti.pt2``, a package of AOTInductor: machine code, for
    ``torch._inductor.aoti_load_package``, here and where there is such a CPU.

    Raises:
        PPCDError: If the C++ compiler fails.
    """
    costs: Costs = {}
    for generator, path in _paths(generators, out_dir, 'aoti.pt2', precision):
        compile_package(
            program_of(
                generator, folded=True, merged=True, dtype=_dtype(precision)
            ),
            path,
            dict(_texts(images)),
        )
        loaded = torch._inductor.aoti_load_package(path)
        costs.update(
            _check(
                generator,
                lambda inputs: loaded(**inputs),
                TORCH_TOLERANCE,
                path,
                precision,
            )
        )
    return costs


def _dtype(precision: Precision) -> torch.dtype:
    return HALF.get(precision.name, torch.float32)


def _texts(images: Description) -> Iterator[Tuple[str, str]]:
    for key, value in images.items():
        yield key, value if isinstance(value, str) else json.dumps(value)


class Format(NamedTuple):
    """How a generator is written, and what it takes.

    Attributes:
        save: Writes the files into a folder that has the export's config.
        packages: That must be installed.
        torch: The oldest version that can do it.
        compiler: Whether it takes a C++ compiler.
        precisions: In what its files can compute.
    """

    save: Callable[[Generators, str, Description, Precision], Costs]
    packages: Tuple[str, ...] = ()
    torch: str = '2.1'
    compiler: bool = False
    precisions: Tuple[str, ...] = ('fp32',)


FORMATS = dict(
    mmagic=Format(save_mmagic),
    torch_export=Format(
        save_torch_export, torch='2.5', precisions=('fp32', 'bf16', 'fp16')
    ),
    onnx=Format(
        save_onnx,
        ('onnx', 'onnxscript', 'onnxruntime'),
        torch='2.6',
        precisions=('fp32', 'fp16', 'int8'),
    ),
    aoti=Format(
        save_aoti,
        torch='2.6',
        compiler=True,
        precisions=('fp32', 'bf16', 'fp16'),
    ),
    safetensors=Format(save_safetensors, ('safetensors',)),
)
"""How generators are written, by name: what writes them, what that needs, and
the precisions it has."""
PRECISIONS = ('fp32', *HALF, 'int8')
"""What files may compute in."""


def check_formats(
    names: Sequence[str], precisions: Sequence[str] = ('fp32',)
) -> None:
    """Refuse what cannot be written here.

    Args:
        names (Sequence[str]): Of ``FORMATS``.
        precisions (Sequence[str]): Of ``PRECISIONS``. Defaults to float32
            alone.

    Raises:
        PPCDError: If a format is unknown, or needs a package that is missing,
            a newer torch or a C++ compiler, or there is no file of a
            precision, or none of a format in those precisions.

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
        require_torch(name)
        missing = [pkg for pkg in needs.packages if find_spec(pkg) is None]
        if missing:
            raise PPCDError(
                f'The format {name} needs {", ".join(missing)}: '
                'install ppcd_mmagic[export].'
            )
        if needs.compiler:
            require_compiler(name)
        if not set(precisions) & set(needs.precisions):
            raise PPCDError(
                f'The format {name} has no {", ".join(precisions)}: it has '
                f'{", ".join(needs.precisions)}; name several precisions for '
                'several formats.'
            )
    for precision in precisions:
        having = [k for k, v in FORMATS.items() if precision in v.precisions]
        if names and not set(having) & set(names):
            raise PPCDError(
                f'There is no {precision} in the format '
                f'{", ".join(names)}: '
                + (
                    f'{", ".join(having)} have it.'
                    if having
                    else f'choose from {", ".join(PRECISIONS)}.'
                )
            )


def require_torch(name: str) -> None:
    """Refuse a format that this torch can neither write nor read.

    Args:
        name (str): Of ``FORMATS``.

    Raises:
        PPCDError: If it needs a newer torch.

    Example:
        >>> require_torch('mmagic')
    """
    wanted = FORMATS[name].torch
    if digit_version(torch.__version__) < digit_version(wanted):
        raise PPCDError(
            f'The format {name} needs torch {wanted} or newer, and this is '
            f'{torch.__version__}: export as mmagic or safetensors, and write '
            'it where torch is newer.'
        )


@torch.no_grad()
def _check(
    generator: nn.Module,
    written: Callable,
    tolerance: float,
    path: str,
    precision: Precision,
) -> Costs:
    file = osp.basename(path)
    if precision.name != 'fp32':
        return {file: cost_of(generator, written, precision, file)}
    for count in (1, 16):  # neither is the batch of the example
        inputs = file_inputs(generator, count)
        difference = largest_difference(
            [call_by_name(generator, inputs)], [written(inputs)]
        )
        if not difference <= tolerance:
            raise FormatMismatch(
                f'{file} differs from the generator by {difference:.3g} '
                f'(allowed: {tolerance}); it was not kept.'
            )
    return {}
