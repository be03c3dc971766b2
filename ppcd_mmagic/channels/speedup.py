"""Discard dead channels with NNI's ``ModelSpeedup``.

NNI goes through the recording and has layers made narrower. Which channels are
dead it is told by the analysis, through its extension points: a mask updater
that claims every node, and a replacer that claims every layer. What it infers
by itself, from what random inputs happen to leave at zero, is not asked: biases
of conditional norms, gates and depthwise convolutions mislead it. Nor are its
own replacers: the new layers that they make lack what a layer was given beside
its weights (attributes, buffers), and they know layers by the mere name of their
class.
"""

import logging
import os
from contextlib import redirect_stdout
from typing import Any, Dict
from unittest.mock import patch

import torch
import torch.nn as nn
from nni.compression.speedup import ModelSpeedup, model_speedup
from nni.compression.speedup.mask_updater import MaskUpdater
from nni.compression.speedup.replacer import Replacer
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from ppcd_mmagic.errors import PPCDError
from .computed_weights import fold_computed_weights
from .linking import Channels, link_masks
from .masks import (
    ChannelMask,
    follower_gate,
    input_gate,
    named_masks,
    output_gate,
    take_off,
)
from .recording import copied, tensors_in
from .untouched import state_kept
from .verification import (
    TOLERANCE,
    copy_on_cpu,
    on_cpu,
    outputs_of,
    overlaps,
    require_same,
)
from .widths import keep_channels, replace, zero_channels


class _AnalysisUpdater(MaskUpdater):
    """Tells NNI of every value which of its channels stay."""

    def __init__(self, channels: Channels) -> None:
        self.analysis = channels.analysis
        self.leaving = channels.leaving()

    def detect(self, speedup: ModelSpeedup, node: fx.Node) -> bool:
        info = speedup.node_infos[node]
        info.output_masks = (
            tree_map(
                lambda cells: self._mask(cells, node.meta.get('shape', ())),
                self.analysis.of(node),
            )
            if node.op != 'output'
            else None
        )
        if node.op == 'call_module':
            info.module = speedup.fetch_attr(node.target)
        return True

    def _mask(self, cells: Any, shape: tuple) -> Any:
        if not torch.is_tensor(cells):
            return None
        root = self.analysis.cells.root
        found, inverse = cells.unique(return_inverse=True)
        stays = torch.tensor(
            [float(root(cell) not in self.leaving) for cell in found.tolist()]
        )
        stays = stays[inverse]
        return stays.expand(shape) if len(shape) == stays.ndim else stays

    def _nothing(self, speedup: ModelSpeedup, node: fx.Node) -> None:
        """All is known from the beginning."""

    direct_update_preprocess = direct_update_process = _nothing
    direct_update_postprocess = indirect_update_preprocess = _nothing
    indirect_update_process = indirect_update_postprocess = _nothing


class _InPlace(Replacer):
    """Narrows the layers themselves, as training does that shrinks them."""

    def __init__(self, kept: Dict[tuple, Tensor]) -> None:
        self.kept = kept

    def replace_modules(self, speedup: ModelSpeedup) -> None:
        for node, info in speedup.node_infos.items():
            if node.op != 'call_module':
                continue
            info.replaced = True
            for side in ('outputs', 'inputs'):
                kept = self.kept.pop((node.target, side), None)
                if kept is not None:
                    keep_channels(info.module, side, kept)


class _Speedup(ModelSpeedup):
    """NNI's own, without what finds out again what the analysis knows, and
    without its replacers."""

    replacers: list

    def fix_mask_conflict(self) -> None:
        pass

    def propagate_originally(self) -> None:
        pass

    def replace_compressed_modules(self) -> None:
        self.replacers = [r for r in self.replacers if isinstance(r, _InPlace)]
        super().replace_compressed_modules()


@torch.no_grad()
def fold_masks(channels: Channels) -> None:
    """Write masks and gates into the weights and take them off.

    What is computed stays exactly the same. Weights must be plain parameters
    (:func:`~ppcd_mmagic.channels.computed_weights.fold_computed_weights`).
    """
    for layer in list(channels.module.modules()):
        writes = output_gate(layer) or follower_gate(layer)
        reads = input_gate(layer)
        for gate, side in ((writes, 'outputs'), (reads, 'inputs')):
            if gate is not None:
                zero_channels(layer, side, (~gate.alive()).nonzero().flatten())
        if writes is not None or reads is not None:
            take_off(layer)


def discard_masked(module: nn.Module, example_inputs: Any) -> nn.Module:
    """Fold the masks of a module into its weights and cut dead channels out.

    Args:
        module (nn.Module): With masks, whose weights are plain parameters;
            changed in place. On the CPU.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.

    Returns:
        nn.Module: The same module, narrower, in eval mode.
    """
    channels = link_masks(module.eval(), example_inputs)
    kept = {
        (owner, side): indices
        for (owner, side), indices in channels.kept().items()
        if isinstance(side, int)  # a parameter of its own
        or not isinstance(module.get_submodule(owner), ChannelMask)
    }
    fold_masks(channels)
    _speed_up(module, example_inputs, channels, kept)
    for (owner, side), indices in kept.items():
        if isinstance(side, int):  # a parameter of its own
            parent, _, name = owner.rpartition('.')
            replace(
                module.get_submodule(parent),
                name,
                lambda value: value.index_select(side, indices),
            )
    return module.eval()


def _speed_up(
    module: nn.Module,
    example_inputs: Any,
    channels: Channels,
    kept: Dict[tuple, Tensor],
) -> None:
    recording = channels.analysis.recording
    with state_kept(module):  # NNI runs it once
        speedup = _Speedup(
            module,
            tuple(tensors_in(copied(example_inputs))),
            {},
            batch_size=1,
            customized_mask_updaters=[_AnalysisUpdater(channels)],
            customized_replacers=[_InPlace(kept)],
            graph_module=recording,
            garbage_collect_values=False,
            logger=_quiet('nni.compression.speedup'),
        )
    _quiet('nni')
    _materialise(recording)
    # for its log NNI counts every mask at every node
    uncounted = patch.object(model_speedup, 'sparsity_stats', lambda mask: '')
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere), uncounted:
        speedup.speedup_model()


def _materialise(module: nn.Module) -> None:
    """Give buffers that are expanded memory of their own: NNI loads the state
    that it saves, and one element cannot be loaded in several places."""
    for layer in module.modules():
        for name, value in layer._buffers.items():
            if value is not None and overlaps(value):
                layer._buffers[name] = value.clone()


def _quiet(name: str, level: int = logging.WARNING) -> logging.Logger:
    """NNI reports every node."""
    logger = logging.getLogger(name)
    logger.setLevel(level)
    return logger


def discard_channels(
    module: nn.Module, example_inputs: Any, tolerance: float = TOLERANCE
) -> nn.Module:
    """A copy of a masked module without masks and dead channels.

    Computed weights (spectral norm) become plain ones. What comes out is
    compared with the masked module on the example inputs and on others: of
    the other sign, of several classes, batches and sizes of maps.

    Args:
        module (nn.Module): With masks; stays as it is.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        tolerance (float): Largest difference allowed, as a fraction of the
            largest value of the output, or absolute where that is below 1.

    Returns:
        nn.Module: In eval mode, without gradients.

    Raises:
        ExportMismatch: If the outputs differ by more, or those of what is
            left alone are not finite.
        PPCDError: If the module has no masks, or its own outputs are not
            finite.

    Example:
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3))
        >>> images = torch.randn(1, 3, 8, 8)
        >>> mask_channels(net, images).masks['0'].prune(4)
        >>> discard_channels(net, images)[0].out_channels
        4
    """
    if not any(True for _ in named_masks(module)):
        raise PPCDError(
            f'{type(module).__name__} has no masks, there is '
            'nothing to discard: mask_channels gives it some.'
        )
    expected = outputs_of(module, example_inputs)
    whole, smaller = copy_on_cpu(module), copy_on_cpu(module)
    inputs = on_cpu(example_inputs)
    fold_computed_weights(smaller)
    discard_masked(smaller, inputs)
    require_same(whole, smaller, inputs, tolerance, expected=expected)
    return smaller.requires_grad_(False).to(next(module.parameters()).device)
