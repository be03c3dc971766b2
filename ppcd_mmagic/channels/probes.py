"""What two networks are compared on: the example inputs, and others.

A recording knows one path, and whoever wrote the forward may have taken others
for other values, classes, sizes, batches, or in training.
"""

from typing import Any, Iterator, List, NamedTuple, Optional

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._pytree import tree_map

from .recording import tensors_in

# with that of the example inputs; a single image, a pair and an odd number
BATCHES = (1, 2, 3)
# of the sides of maps; more would cost attention too much memory
SCALES = (0.5, 1.5)


class Probe(NamedTuple):
    """Inputs to run two networks on, and how.

    Attributes:
        words: What they are, for a message.
        inputs: On the CPU, see :func:`~ppcd_mmagic.channels.mask_channels`.
        training: Whether in training mode.
        seed: Of the random numbers drawn by the networks.
        batch: How many samples, 0 where nothing tells.
        scale: Of the sides of maps, to those of the example inputs.
    """

    words: str
    inputs: Any
    training: bool = False
    seed: int = 0
    batch: int = 0
    scale: float = 1.0

    def is_taken(self, outputs: List[Tensor], example: List[Tensor]) -> bool:
        """Whether outputs are as those of the example inputs, but of this
        batch and this size: a view of a fixed shape may run on others by
        chance, and mix samples or channels with places.

        Args:
            outputs (list[Tensor]): Of these inputs.
            example (list[Tensor]): Of the example inputs.
        """
        return len(outputs) == len(example) and all(
            out.ndim == of_example.ndim
            and (not out.ndim or self.batch in (0, len(out)))
            and all(
                (out.shape[side] != of_example.shape[side]) == (self.scale != 1)
                for side in _sides(out)
            )
            for out, of_example in zip(outputs, example)
        )

    @property
    def is_example(self) -> bool:
        """Whether they are the example inputs themselves."""
        return self.seed == 0


def probes(
    module: nn.Module, example_inputs: Any, training: bool = False
) -> Iterator[Probe]:
    """The example inputs, then others of a few samples each.

    It is for the caller to leave out those that the module does not run on:
    which it takes beside the example inputs is not known.

    Args:
        module (nn.Module): Tells how many classes there are (``num_classes``,
            or the rows of an embedding) if the inputs hold whole numbers.
        example_inputs (Tensor | tuple | dict): On the CPU.
        training (bool): Whether in training mode as well.
    """
    for seed, probe in enumerate(_probes(module, example_inputs, training)):
        yield probe._replace(seed=seed)


def _probes(
    module: nn.Module, example_inputs: Any, training: bool
) -> Iterator[Probe]:
    draw = _Draws(example_inputs)
    yield Probe('the example inputs', example_inputs)
    yield Probe(
        'the example inputs of the other sign', draw.negated(), batch=draw.batch
    )
    classes = _classes(module, example_inputs)
    for number in classes:
        yield Probe(f'class {number}', draw(1, [number]), batch=1)
    for batch in BATCHES:
        if batch != draw.batch and draw.batch:
            yield Probe(f'a batch of {batch}', draw(batch), batch=batch)
    for scale in SCALES if draw.has_maps else ():
        yield Probe(
            f'maps {scale:g} times as large',
            draw(1, scale=scale),
            batch=1,
            scale=scale,
        )
    if len(classes) > 1:
        yield Probe('several classes', draw(3, classes[::-1]), batch=3)
    if training:
        # one image alone has no statistics
        inputs = draw(max(2, draw.batch))
        yield Probe('other inputs in training mode', inputs, training=True)


class _Draws:
    """Inputs like the example inputs: of the same kinds, mean and deviation.

    Attributes:
        batch (int): Of the example inputs; 0 where nothing tells.
        has_maps (bool): Whether any of them has sides.
    """

    def __init__(self, example_inputs: Any) -> None:
        self.example = example_inputs
        tensors = [value for value in tensors_in(example_inputs) if value.ndim]
        self.batch = len(tensors[0]) if tensors else 0
        self.has_maps = any(_sides(value) for value in tensors)
        self.random = torch.Generator().manual_seed(0)

    def negated(self) -> Any:
        return self._each(
            lambda value: -value if value.is_floating_point() else value
        )

    def __call__(
        self,
        batch: int,
        classes: Optional[List[int]] = None,
        scale: float = 1.0,
    ) -> Any:
        """Fresh ones; whole numbers are those given, or of the example."""

        def drawn(value: Tensor) -> Tensor:
            shape = list(value.shape)
            if shape and shape[0] == self.batch:
                shape[0] = batch
            for side in _sides(value):
                shape[side] = max(1, int(shape[side] * scale))
            if value.is_floating_point():
                return self._like(value, shape)
            if classes and _is_whole(value):
                return _spread(value, classes, shape)
            return _repeated(value, shape)

        return self._each(drawn)

    def _each(self, change: Any) -> Any:
        return tree_map(
            lambda value: change(value) if torch.is_tensor(value) else value,
            self.example,
        )

    def _like(self, value: Tensor, shape: list) -> Tensor:
        if value.numel() < 2:  # a strength, a time: no deviation is known
            return _repeated(value, shape)
        values = torch.randn(shape, generator=self.random).to(value)
        return values * value.std() + value.mean()


def _sides(value: Tensor) -> range:
    """Dimensions of a map behind batch and channels."""
    return range(max(2, value.ndim - 2), value.ndim)


def _is_whole(value: Tensor) -> bool:
    return not (
        value.is_floating_point()
        or value.is_complex()
        or value.dtype == torch.bool
    )


def _spread(value: Tensor, classes: List[int], shape: list) -> Tensor:
    """The classes one after the other along the batch."""
    length = shape[0] if shape else 1
    numbers = torch.tensor([classes[i % len(classes)] for i in range(length)])
    return (
        numbers.to(value)
        .view(-1, *[1] * (len(shape) - 1))
        .expand(shape or 1)
        .reshape(shape)
    )


def _repeated(value: Tensor, shape: list) -> Tensor:
    for dim, size in enumerate(shape):
        indices = torch.arange(size) % max(1, value.shape[dim])
        value = value.index_select(dim, indices)
    return value


def _classes(module: nn.Module, example_inputs: Any) -> List[int]:
    """The first two (an even and an odd one), the middle and the last."""
    whole = [
        int(value.max())
        for value in tensors_in(example_inputs)
        if _is_whole(value) and value.numel()
    ]
    if not whole:
        return []
    rows = [
        layer.num_embeddings
        for layer in module.modules()
        if isinstance(layer, nn.Embedding)
    ]
    count = getattr(module, 'num_classes', None)
    if not isinstance(count, int) or count < 1:
        count = max(rows, default=max(whole) + 3)
    return sorted({0, min(1, count - 1), count // 2, count - 1})
