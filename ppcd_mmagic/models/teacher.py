"""A frozen generator that guides the student."""
from typing import Callable, Dict, Optional, Sequence, Union

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.generators import FeatureTap
from ppcd_mmagic.registry import MODELS


@MODELS.register_module(name=['GeneratorTeacher', 'BigGANTeacher'])
class GeneratorTeacher(nn.Module):
    """A frozen, pre-trained generator that only gives features.

    Registered as ``BigGANTeacher`` as well, its name before it took any
    generator.

    The generator is kept out of the module tree: whatever holds the teacher
    neither trains it, nor saves it, nor hands it to an optimizer, and
    ``train()`` does not reach it. It still follows ``.to()`` and ``.cuda()``.

    Args:
        generator (dict): Config of the generator, such as MMagic's
            ``BigGANGenerator`` or ``BigGANDeepGenerator``.
        checkpoint (str, optional): See :func:`load_weights`.
            None leaves random weights, for tests and for measuring speed.
        layers (str | Sequence[str]): Layers whose outputs are the features.
            Defaults to 'conv_blocks.*'.

    Raises:
        PPCDError: If the checkpoint does not exist or does not fit, or a
            layer is unknown.
    """

    def __init__(self,
                 generator: dict,
                 checkpoint: Optional[str] = None,
                 layers: Union[str, Sequence[str]] = 'conv_blocks.*') -> None:
        super().__init__()
        built = MODELS.build(generator)
        if checkpoint is not None:
            load_weights(built, checkpoint, 'teacher')
            print_log(f'teacher loaded from {checkpoint}', 'current')
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
                and ``label`` (n, ), or images (n, c, h, w).

        Returns:
            Dict[int, Tensor]: Feature maps (n, c, h, w) by height h.
        """
        with self._tap:
            self.generator(*args, **kwargs)
        features = self._tap.by_resolution()
        self._tap.features = {}
        return features

    @torch.no_grad()
    def images(self, noise: Tensor, label: Tensor) -> Tensor:
        """The teacher's images (n, 3, h, w) in [-1, 1]."""
        return self.generator(noise, label=label)
