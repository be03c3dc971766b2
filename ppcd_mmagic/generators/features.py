"""Features of layers, by name."""

from fnmatch import fnmatch
from typing import Dict, Iterable, List, Sequence, Tuple, Union

import torch.nn as nn
from mmengine.model import is_model_wrapper
from torch import Tensor

from ppcd_mmagic.errors import PPCDError


class FeatureTap:
    """Collects the outputs of named layers during one forward pass.

    A context manager; hooks live only inside it, and the features only as
    long as the caller keeps them::

        with FeatureTap(generator, 'conv_blocks.*') as tap:
            image = generator(noise, label=label)
        features = tap.by_resolution()

    Args:
        module (nn.Module): Any module (a DDP wrapper is looked through).
        layers (str | Sequence[str]): Names or ``fnmatch`` patterns, of which
            ``*`` stands for any part of a name, dots included. Of layers
            inside each other the outermost counts: 'conv_blocks.*' names the
            blocks, not what is inside them.

    Raises:
        PPCDError: If a pattern matches no layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
        >>> with FeatureTap(net, ['0', '2']) as tap:
        ...     _ = net(torch.zeros(1, 3, 10, 10))
        >>> {side: tuple(f.shape) for side, f in tap.by_resolution().items()}
        {8: (1, 8, 8, 8), 4: (1, 8, 4, 4)}
    """

    def __init__(
        self, module: nn.Module, layers: Union[str, Sequence[str]]
    ) -> None:
        self.module: nn.Module = (
            getattr(module, 'module', module)
            if is_model_wrapper(module)
            else module
        )
        self.names = find_layers(self.module, layers)
        self.features: Dict[str, Tensor] = {}

    def __enter__(self) -> 'FeatureTap':
        self.features = {}
        self._handles = [
            self.module.get_submodule(name).register_forward_hook(
                self._recorder(name)
            )
            for name in self.names
        ]
        return self

    def _recorder(self, name: str):

        def record(module, args, output):
            self.features[name] = output

        return record

    def __exit__(self, *exc_info) -> None:
        for handle in self._handles:
            handle.remove()

    def by_resolution(self) -> Dict[int, Tensor]:
        """Features by their height, the last layer of each (so after
        self-attention, where a block has it)."""
        return {
            feature.shape[-2]: feature for feature in self.features.values()
        }


def common_features(
    student: Dict[int, Tensor], teacher: Dict[int, Tensor]
) -> Tuple[dict, dict]:
    """The features of the resolutions that both have.

    Raises:
        PPCDError: If there are none.
    """
    common = [size for size in student if size in teacher]
    if not common:
        raise PPCDError(
            f'The student has features of {sorted(student)} pixels and '
            f'the teacher of {sorted(teacher)}, none in common: choose '
            "`distill_layers` and the teacher's `layers` alike."
        )
    return (
        {size: student[size] for size in common},
        {size: teacher[size] for size in common},
    )


def find_layers(
    module: nn.Module, patterns: Union[str, Sequence[str]]
) -> List[str]:
    """Names of the submodules that match, in the order of the module."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    names = [name for name, _ in module.named_modules() if name]
    found = set()
    for pattern in patterns:
        matched = _outermost(n for n in names if fnmatch(n, pattern))
        if not matched:
            top = [name for name in names if name.count('.') <= 1]
            raise PPCDError(
                f'No layer matches "{pattern}" in {type(module).__name__}; it '
                f'has: {", ".join(top)} (and what is inside them).'
            )
        found.update(matched)
    return [name for name in names if name in found]


def _outermost(names: Iterable[str]) -> List[str]:
    """Without names inside of others; parents come first."""
    found: List[str] = []
    for name in names:
        if not any(name.startswith(f'{parent}.') for parent in found):
            found.append(name)
    return found
