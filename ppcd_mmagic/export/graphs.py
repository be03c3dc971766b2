"""A generator as a graph of torch.export.

It takes the generator's own forward function. Its arguments are the inputs,
by name, the batch is dynamic, and a label out of range is an error.
"""

import copy
from functools import partial
from typing import Callable, Dict, cast

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ppcd_mmagic.channels import as_written, largest_difference
from ppcd_mmagic.generators import example_inputs
from .folding import fold_norms
from .merging import merge_upsampling_nodes

TORCH_TOLERANCE = 1e-5


class _Labelled(nn.Module):
    """A class-conditional generator as a plain function."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.num_classes = cast(int, generator.num_classes)
        self.generator = generator

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        torch._assert_async(
            ((label >= 0) & (label < self.num_classes)).all(),
            f'label out of range: it must be from 0 to {self.num_classes - 1}',
        )
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


class _Rounded(nn.Module):
    """A generator that computes in half precision, from and to float32. Norms
    keep their statistics, whose squares may be out of its range."""

    def __init__(self, generator: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.num_classes = getattr(generator, 'num_classes', None)
        self.generator = copy.deepcopy(generator).to(dtype)
        for layer in self.generator.modules():
            if isinstance(layer, _BatchNorm):
                layer.float()

    def forward(self, values: Tensor, **given: Tensor) -> Tensor:
        return self.generator(values.to(self.dtype), **given).float()


def program_of(
    generator: nn.Module,
    folded: bool = False,
    merged: bool = False,
    dtype: torch.dtype = torch.float32,
) -> torch.export.ExportedProgram:
    """A generator's graph, of any batch size.

    Args:
        generator (nn.Module): In eval mode.
        folded (bool): Whether norms are folded into their neighbours, see
            :func:`fold_norms`; in half precision they stay. Defaults to
            False.
        merged (bool): Whether convolutions of enlarged maps compute before
            the maps are enlarged, see :func:`merge_upsampling_nodes`.
            Defaults to False. Where both together change an image in float32
            by more than 1e-5, neither is done.
        dtype (torch.dtype): In which it computes; inputs and images are
            float32. Defaults to torch.float32.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=9)
        ... )
        >>> graph = program_of(generator.eval(), folded=True).module()
        >>> graph(**file_inputs(generator, 5)).shape
        torch.Size([5, 3, 32, 32])
    """
    # not of size 1, which torch.export would take for a constant
    inputs = file_inputs(generator, 2)
    # torch 2.5 and 2.6 cannot prove of more that it is no largest number
    batch = torch.export.Dim('batch', min=1, max=2**31)
    export = partial(
        torch.export.export,
        args=(),
        kwargs=inputs,
        dynamic_shapes={name: {0: batch} for name in inputs},
        strict=False,
    )
    plain = _Labelled if 'label' in inputs else _Unlabelled
    whole = dtype is torch.float32
    with as_written(generator):
        program = export(
            plain(generator if whole else _Rounded(generator, dtype))
        )
    graph = program.module()
    changes = fold_norms(graph) if folded and whole else 0
    if merged:
        changes += merge_upsampling_nodes(graph)
    if not changes or whole and not _draws_alike(graph, generator):
        return program
    return export(graph)


def _draws_alike(graph: Callable, generator: nn.Module) -> bool:
    probe = file_inputs(generator, 16)
    with torch.no_grad():
        difference = largest_difference(
            [call_by_name(generator, probe)], [graph(**probe)]
        )
    if difference <= TORCH_TOLERANCE:
        return True
    print_log(
        'Norms folded into their neighbours, and convolutions computed before '
        f'their input is enlarged, would change an image by {difference:.3g}: '
        'they are written as they are.',
        'current',
    )
    return False


def file_inputs(generator: nn.Module, count: int) -> Dict[str, Tensor]:
    """Inputs by the names that they have in the files.

    Args:
        generator (nn.Module): See ``example_inputs``.
        count (int): Of images; the classes are evenly spread.

    Returns:
        dict: ``noise`` (n, noise_size) and ``label`` (n, ), or ``input``.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=9)
        ... )
        >>> inputs = file_inputs(generator, 3)
        >>> inputs['noise'].shape, inputs['label'].tolist()
        (torch.Size([3, 128]), [0, 4, 8])
    """
    values, labels = example_inputs(generator, count)
    if not labels:
        return dict(input=values)
    label = torch.linspace(
        0, cast(int, generator.num_classes) - 1, count
    ).long()
    return dict(noise=values, label=label)


def call_by_name(generator: Callable, inputs: Dict[str, Tensor]) -> Tensor:
    """A generator's images of the inputs that :func:`file_inputs` gives.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=9)
        ... )
        >>> call_by_name(generator, file_inputs(generator, 3)).shape
        torch.Size([3, 3, 32, 32])
    """
    inputs = dict(inputs)
    first = inputs.pop('noise' if 'noise' in inputs else 'input')
    return generator(first, **inputs)
