"""Inputs that a generator can be run on."""

import inspect
from math import erf, sqrt
from typing import Iterator, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from ppcd_mmagic.errors import PPCDError


def example_inputs(generator: nn.Module, batch: int = 2) -> tuple:
    """Inputs to record, count or write a generator with, always the same.

    A generator of MMagic that takes ``noise`` gets noise of its
    ``noise_size`` and, if it has classes, the label 0. Any other one tells
    the shape of its input itself, in the attribute ``input_shape`` (see
    ``MaskedGenerator``).

    Args:
        generator (nn.Module): Not wrapped.
        batch (int): Number of samples. Defaults to 2.

    Returns:
        tuple: Positional arguments, and a dict of keyword arguments at the
        end, on the generator's device.

    Raises:
        PPCDError: If it is not known what the generator takes.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=3)
        ... )
        >>> noise, named = example_inputs(generator)
        >>> noise.shape, named
        (torch.Size([2, 128]), {'label': tensor([0, 0])})
    """
    labels = torch.zeros(batch, dtype=torch.long)
    return next(_inputs(generator, labels, batch))


def class_inputs(generator: nn.Module, count: int) -> Iterator[tuple]:
    """Single inputs to compare generators on, one after the other.

    Args:
        generator (nn.Module): See :func:`example_inputs`.
        count (int): How many; where there are fewer classes, so many. Classes
            are evenly spread, the first and the last among them.

    Yields:
        tuple: As :func:`example_inputs` returns, of a batch of one.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=9)
        ... )
        >>> [int(named['label']) for _, named in class_inputs(generator, 3)]
        [0, 4, 8]
    """
    classes = getattr(generator, 'num_classes', None)
    if classes:
        count = min(count, classes)
        labels = torch.linspace(0, classes - 1, count).round().long()
    else:
        labels = torch.zeros(count, dtype=torch.long)
    return _inputs(generator, labels, 1)


def random_inputs(generator: nn.Module, batch: int) -> Tuple[tuple, dict]:
    """Fresh inputs as training draws them: noise, and classes uniformly.

    Args:
        generator (nn.Module): See :func:`example_inputs`.
        batch (int): Number of samples.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=3)
        ... )
        >>> (noise,), named = random_inputs(generator, 4)
        >>> noise.shape, named['label'].shape
        (torch.Size([4, 128]), torch.Size([4]))
    """
    parameter = next(generator.parameters())
    values = torch.randn(batch, *_input_shape(generator)).to(parameter)
    classes = getattr(generator, 'num_classes', None)
    labels = torch.randint(classes, (batch,)) if classes else None
    return (values,), _keywords(generator, labels, parameter.device)


def takes_noise(generator: nn.Module) -> bool:
    """Whether :func:`random_inputs` are what the generator is trained with:
    it takes noise of its own size, and not an ``input_shape``."""
    return getattr(generator, 'input_shape', None) is None and (
        'noise' in _arguments(generator) and hasattr(generator, 'noise_size')
    )


def draw_noise(
    number: int, size: int, seed: int = 0, truncation: Optional[float] = None
) -> Tensor:
    """Noise that does not depend on how much of it is asked for.

    Args:
        number (int): How many vectors.
        size (int): Their length.
        seed (int): The same seed gives the same vectors on every device; the
            first ones are the same for every ``number``. Defaults to 0.
        truncation (float, optional): Draw from the normal distribution cut
            off at plus and minus this threshold (the "truncation trick", Brock
            et al. 2019, section 3.1: values beyond it are drawn again). None,
            the default, cuts nothing off.

    Returns:
        Tensor: Shape (number, size).

    Raises:
        PPCDError: If ``truncation`` is not positive.

    Example:
        >>> draw_noise(4, 128, seed=7).equal(draw_noise(9, 128, seed=7)[:4])
        True
        >>> float(draw_noise(4, 128, truncation=0.5).abs().max()) <= 0.5
        True
    """
    generator = torch.Generator().manual_seed(seed)
    if truncation is None:
        rows = [torch.randn(size, generator=generator) for _ in range(number)]
        return torch.stack(rows)
    if isinstance(truncation, str) or not truncation > 0:
        raise PPCDError(
            f'truncation={truncation} must be above 0: it is the '
            'largest absolute value of the noise.'
        )
    rows = [
        torch.rand(size, generator=generator, dtype=torch.float64)
        for _ in range(number)
    ]
    # the inverse of the cut distribution's function
    inside = (2 * torch.stack(rows) - 1) * erf(truncation / sqrt(2))
    values = sqrt(2) * torch.erfinv(inside)
    return values.clamp(-truncation, truncation).float()


def _inputs(generator: nn.Module, labels: Tensor, batch: int):
    device = next(generator.parameters()).device
    dtype = next(generator.parameters()).dtype
    random = torch.Generator().manual_seed(0)
    shape = _input_shape(generator)
    for chunk in labels.split(batch):
        values = torch.randn(batch, *shape, generator=random)
        yield (values.to(device, dtype), _keywords(generator, chunk, device))


def _input_shape(generator: nn.Module) -> tuple:
    shape = getattr(generator, 'input_shape', None)
    if shape is not None:
        return tuple(shape)
    if takes_noise(generator):
        return (generator.noise_size,)
    raise PPCDError(
        f'It is not known what {type(generator).__name__} takes: name the '
        'shape of its input without the batch, such as input_shape=(3, 64, '
        '64), in the config of MaskedGenerator.'
    )


def _keywords(generator: nn.Module, labels: Optional[Tensor], device) -> dict:
    if (
        labels is not None
        and getattr(generator, 'num_classes', None)
        and 'label' in _arguments(generator)
    ):
        return dict(label=labels.to(device))
    return {}


def _arguments(generator: nn.Module) -> list:
    return list(inspect.signature(generator.forward).parameters)
