"""A frozen generator that guides the student."""

from inspect import signature
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor
from torch.utils import _pytree

from ppcd_mmagic.channels import fold_computed_weights
from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import FeatureTap
from ppcd_mmagic.registry import MODELS
from .chunked_attention import chunk_attention
from .memory_layout import LayoutFollower
from .upsampling_conv import merge_upsampling

PRECISIONS = dict(bf16=torch.bfloat16, fp16=torch.float16)


@MODELS.register_module(name=['GeneratorTeacher', 'BigGANTeacher'])
class GeneratorTeacher(nn.Module):
    """A frozen, pre-trained generator that gives features and images.

    Registered as ``BigGANTeacher`` as well, its name before it took any
    generator.

    The generator is kept out of the module tree: whatever holds the teacher
    neither trains it, nor saves it, nor hands it to an optimizer, and
    ``train()`` does not reach it. It still follows ``.to()`` and ``.cuda()``.
    As it is frozen, what spectral norm computes is computed once, attention
    goes by chunks, convolutions of enlarged maps compute before they enlarge,
    and all have the layout that is fastest.

    Args:
        generator (dict): Config of the generator, such as MMagic's
            ``BigGANGenerator`` or ``BigGANDeepGenerator``.
        checkpoint (str, optional): See :func:`load_weights`.
            None leaves random weights, for tests and for measuring speed.
        layers (str | Sequence[str]): Layers whose outputs are the features.
            Defaults to 'conv_blocks.*'.
        class_map (Sequence[int] | str, optional): The teacher's class for each
            class of the student, such as ``[207, 250]`` for a student of two
            of ImageNet's; or a text file of it, a class a line. None where
            both have the same classes.
        precision (str, optional): 'bf16' or 'fp16' computes it by autocast
            in less than float32, which saves time where the machine has
            instructions for it; its weights, features and images stay as they
            are. None computes as the training around it does.

    Attributes:
        num_classes (int): How many classes a student of it has.

    Raises:
        PPCDError: If the checkpoint does not exist or does not fit, a layer
            or the precision is unknown, or ``class_map`` names a class that
            the teacher lacks.

    Example:
        >>> teacher = MODELS.build(
        ...     dict(
        ...         type='GeneratorTeacher',  # checkpoint='biggan.pth' in a training
        ...         generator=dict(
        ...             type='BigGANGenerator', output_scale=32, noise_size=8,
        ...             num_classes=1000, base_channels=4,
        ...         ),
        ...         class_map=[207, 250],
        ...     )
        ... )
        >>> teacher.num_classes
        2
        >>> list(teacher(torch.randn(2, 8), label=torch.tensor([0, 1])))
        [8, 16, 32]
    """

    def __init__(
        self,
        generator: dict,
        checkpoint: Optional[str] = None,
        layers: Union[str, Sequence[str]] = 'conv_blocks.*',
        class_map: Union[str, Sequence[int], None] = None,
        precision: Optional[str] = None,
    ) -> None:
        super().__init__()
        if precision not in (None, *PRECISIONS):
            raise PPCDError(
                f'precision={precision!r} of a teacher must be one of '
                f'{tuple(PRECISIONS)}, or None.'
            )
        self.precision = precision
        built = MODELS.build(generator)
        self.num_classes = getattr(built, 'num_classes', None)
        self._classes: Optional[Tensor]
        self.register_buffer(
            '_classes',
            _class_map(class_map, self.num_classes),
            persistent=False,
        )
        if self._classes is not None:
            self.num_classes = len(self._classes)
        if checkpoint is not None:
            load_weights(built, checkpoint, 'teacher')
            print_log(f'teacher loaded from {checkpoint}', 'current')
        fold_computed_weights(built)
        chunk_attention(built)
        merge_upsampling(built)
        LayoutFollower().follow(built)
        self._hidden = [built.requires_grad_(False).eval()]
        self._tap = FeatureTap(built, layers)

    @property
    def generator(self) -> nn.Module:
        return self._hidden[0]

    def _apply(self, fn: Callable, recurse: bool = True) -> 'GeneratorTeacher':
        self.generator._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, *args, **kwargs) -> Dict[int, Tensor]:
        """Features of the teacher's image.

        Args:
            *args, **kwargs: Inputs of the generator: noise (n, noise_size)
                and the student's ``label`` (n, ), or images (n, c, h, w).

        Returns:
            Dict[int, Tensor]: Feature maps (n, c, h, w) by height h.
        """
        return self.draw(*args, **kwargs)[1]

    @torch.no_grad()
    def draw(self, *args, **kwargs) -> Tuple[Any, Dict[int, Tensor]]:
        """What the generator makes of its inputs, and its features; both as
        in :meth:`images` and :meth:`forward`."""
        with self._tap:
            drawn = self._generate(*args, **kwargs)
        features = self._tap.by_resolution()
        self._tap.features = {}
        return drawn, self._as_trained(features)

    @torch.no_grad()
    def images(self, noise: Tensor, label: Tensor) -> Tensor:
        """The teacher's images (n, 3, h, w) in [-1, 1], for the student's
        classes."""
        return self._generate(noise, label=label)

    def _generate(self, *args, **kwargs) -> Any:
        if self._classes is not None:
            bound = signature(self.generator.forward).bind(*args, **kwargs)
            bound.arguments['label'] = self._classes[bound.arguments['label']]
            args, kwargs = bound.args, bound.kwargs
        if self.precision is None:
            return self.generator(*args, **kwargs)
        device = next(self.generator.parameters()).device.type
        with torch.autocast(device, PRECISIONS[self.precision]):
            drawn = self.generator(*args, **kwargs)
        return self._as_trained(drawn)

    def _as_trained(self, drawn: Any) -> Any:
        """Out of the precision of the teacher alone."""
        if self.precision is None:
            return drawn
        less = PRECISIONS[self.precision]
        return _pytree.tree_map_only(
            Tensor,
            lambda value: value.float() if value.dtype == less else value,
            drawn,
        )


def _whole(number: Union[int, str]) -> int:
    if isinstance(number, (bool, float)):
        raise ValueError(f'{number} is no whole number')
    return int(number)


def _class_map(
    given: Union[str, Sequence[int], None], num_classes: Optional[int]
) -> Optional[Tensor]:
    if given is None:
        return None
    try:
        numbers = (
            Path(given).read_text().split() if isinstance(given, str) else given
        )
        classes = [_whole(number) for number in numbers]
    except (OSError, TypeError, ValueError) as error:
        raise PPCDError(
            f'class_map={given!r} cannot be read ({error}): expected the '
            "teacher's class for each class of the student, in a list or in "
            'a text file, a number a line.'
        ) from error
    wrong = [c for c in classes if not 0 <= c < (num_classes or 0)]
    if wrong or not classes:
        raise PPCDError(
            f'class_map has {wrong[0] if wrong else "no class"}: its numbers '
            f'must be from 0 to {(num_classes or 0) - 1}, the classes of the '
            'teacher.'
        )
    return torch.tensor(classes)
