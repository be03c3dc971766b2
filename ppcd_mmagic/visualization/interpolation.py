"""Walking through noises and classes (figures F and G)."""

from contextlib import contextmanager
from typing import Iterator

import torch
import torch.nn as nn
from torch import Tensor

from ppcd_mmagic.errors import PPCDError


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation between noises, along the great circle.

    Args:
        a (Tensor): Shape (d, ).
        b (Tensor): Shape (d, ).
        t (Tensor): Shape (n, ), 0 gives ``a``, 1 gives ``b``.

    Returns:
        Tensor: Shape (n, d).
    """
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1, 1)
    angle = torch.arccos(cosine)
    t = t[:, None]
    if torch.sin(angle) < 1e-4:  # parallel: the straight line is the arc
        return (1 - t) * a + t * b
    return (
        torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b
    ) / torch.sin(angle)


@contextmanager
def mixed_classes(
    generator: nn.Module, other: Tensor, t: Tensor
) -> Iterator[None]:
    """Let a generator draw something between two classes.

    Inside, every class embedding of the generator returns the mixture of the
    label it is asked for and of ``other``.

    Args:
        generator (nn.Module): With ``nn.Embedding`` tables indexed by class.
        other (Tensor): Class indices, shape (n, ).
        t (Tensor): Shape (n, ), 0 is the label itself, 1 is ``other``.

    Raises:
        PPCDError: If the generator has no class embeddings.
    """
    tables = [m for m in generator.modules() if isinstance(m, nn.Embedding)]
    if not tables:
        raise PPCDError(
            f'{type(generator).__name__} has no class embeddings '
            'to interpolate between.'
        )

    def mix(table: nn.Embedding, args: tuple, out: Tensor) -> Tensor:
        there = table.forward(other)
        return torch.lerp(out, there, t[:, None].to(out.dtype))

    handles = [table.register_forward_hook(mix) for table in tables]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def interpolate_classes(
    generator: nn.Module, noise: Tensor, start: int, end: int, steps: int
) -> Tensor:
    """Figure F: one noise (d, ), from one class to another.

    Returns:
        Tensor: Images (steps, 3, h, w).
    """
    t = torch.linspace(0, 1, steps)
    labels = torch.full((steps,), start)
    with mixed_classes(generator, torch.full_like(labels, end), t):
        return generator(noise.expand(steps, -1), label=labels)


@torch.no_grad()
def interpolate_noises(
    generator: nn.Module, start: Tensor, end: Tensor, label: int, steps: int
) -> Tensor:
    """Figure G: one class, from one noise (d, ) to another.

    Returns:
        Tensor: Images (steps, 3, h, w).
    """
    noise = slerp(start, end, torch.linspace(0, 1, steps))
    return generator(noise, label=torch.full((steps,), label))
