"""Discard dead channels with NNI's ``ModelSpeedup``.

NNI infers from masks on the weights which channels never matter, and replaces
the layers by narrower ones. What it does not know is supplied through its
extension points: class-conditional norms and self-attention keep channels
apart (output mask = input mask), and embeddings lose columns, never the rows
of classes that its random labels happen to miss.
"""
import logging
import operator
import os
from contextlib import redirect_stdout
from typing import Dict
from unittest.mock import patch

import torch
import torch.nn as nn
from mmagic.models.editors.biggan.biggan_modules import SelfAttentionBlock
from nni.compression.speedup import ModelSpeedup, model_speedup
from nni.compression.speedup.mask_updater import (DefaultMaskUpdater,
                                                  LeafModuleMaskUpdater)
from nni.compression.speedup.replacer import Replacer
from torch import Tensor
from torch.utils._pytree import tree_map

from ppcd_mmagic.layers import LAYERS, keep_channels
from ppcd_mmagic.masks import fold_masks, living_outputs
from ppcd_mmagic.tracing import CONDITIONAL_NORMS, trace

_CHANNELWISE = CONDITIONAL_NORMS + (SelfAttentionBlock, )


class _ChannelwiseUpdater(LeafModuleMaskUpdater):
    """A channel is dead behind the module exactly if it is before it."""

    def detect(self, speedup, node) -> bool:
        return (node.op == 'call_module'
                and isinstance(speedup.fetch_attr(node.target), _CHANNELWISE)
                and super().detect(speedup, node))

    def direct_update_preprocess(self, speedup, node) -> None:
        DefaultMaskUpdater.direct_update_preprocess(self, speedup, node)

    def direct_update_process(self, speedup, node) -> None:
        source = speedup.node_infos[node.args[0]]
        speedup.node_infos[node].output_masks = source.output_masks.clone()

    def indirect_update_preprocess(self, speedup, node) -> None:
        speedup.node_infos[node].output_grad = None

    def indirect_update_process(self, speedup, node) -> None:
        info = speedup.node_infos[node]
        source = speedup.node_infos[node.args[0]]
        needed = info.output_masks.expand_as(info.output_origin).clone()
        source.output_grad = needed if source.output_grad is None else \
            source.output_grad + needed


class _WholeUpdater(LeafModuleMaskUpdater):
    """What leads from noise and label to the first feature map and to the
    norms is never pruned."""

    modules = (nn.Linear, nn.Embedding)
    functions = (torch.split, torch.cat, operator.getitem)

    def detect(self, speedup, node) -> bool:
        if node.op == 'call_function':
            return node.target in self.functions
        return (node.op == 'call_module'
                and isinstance(speedup.fetch_attr(node.target), self.modules)
                and super().detect(speedup, node))

    def direct_update_preprocess(self, speedup, node) -> None:
        DefaultMaskUpdater.direct_update_preprocess(self, speedup, node)

    def direct_update_process(self, speedup, node) -> None:
        info = speedup.node_infos[node]
        info.output_masks = tree_map(lambda value: torch.ones_like(value[:1]),
                                     info.output_origin)

    def indirect_update_preprocess(self, speedup, node) -> None:
        speedup.node_infos[node].output_grad = None

    def indirect_update_process(self, speedup, node) -> None:
        pass


class _ChannelwiseReplacer(Replacer):
    """Narrows conditional norms and self-attention in place."""

    def replace_modules(self, speedup) -> None:
        for node, info in speedup.node_infos.items():
            if node.op != 'call_module':
                continue
            module = speedup.bound_model.get_submodule(node.target)
            if isinstance(module, _CHANNELWISE):
                source = speedup.node_infos[node.args[0]].output_masks
                kept = source.amax((0, 2, 3)).nonzero().flatten()
                _narrow(module, kept)
                info.replaced = True


def _narrow(module: nn.Module, kept: Tensor) -> None:
    """Keep the given channels of a module that keeps channels apart."""
    if isinstance(module, SelfAttentionBlock):
        for reader in (module.theta, module.phi, module.g):
            keep_channels(reader.conv, inputs=kept)
        keep_channels(module.o.conv, outputs=kept)
    else:
        for layer in module.modules():
            if isinstance(layer, LAYERS):
                keep_channels(layer, outputs=kept)


def weight_masks(generator: nn.Module) -> Dict[str, Dict[str, Tensor]]:
    """The channel masks as NNI takes them: a mask on each weight, by rows.

    The columns follow from them. Given as well, NNI would have to guess which
    of the two is meant, by what it finds more of.
    """
    masks = {}
    for name, conv in generator.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        rows = living_outputs(conv)
        if rows is None:
            continue
        weight = torch.ones_like(conv.weight) * rows.view(-1, 1, 1, 1)
        masks[name] = dict(weight=weight)
        if conv.bias is not None:
            masks[name]['bias'] = rows.to(weight)
    return masks


@torch.enable_grad()  # NNI asks gradients what is needed
def discard_dead_channels(generator: nn.Module) -> nn.Module:
    """Fold the masks of a generator into its weights and drop dead channels.

    Args:
        generator (nn.Module): With masks, without spectral norm. Changed in
            place.

    Returns:
        nn.Module: The generator, narrower, on the CPU, in eval mode.
    """
    generator = generator.cpu().eval().requires_grad_(True)
    masks = weight_masks(generator)
    fold_masks(generator)
    # two images are enough: what decides are zeros, not statistics
    noise = torch.randn(2, generator.noise_size)
    label = torch.zeros(2, dtype=torch.long)
    speedup = ModelSpeedup(
        generator, (noise, label),
        masks,
        batch_size=2,
        customized_mask_updaters=[_ChannelwiseUpdater(), _WholeUpdater()],
        customized_replacers=[_ChannelwiseReplacer()],
        graph_module=trace(generator),
        garbage_collect_values=False,  # NNI 3.0 fails on size() with it
        logger=_quiet('nni.compression.speedup'))
    _quiet('nni')
    _quiet('nni.compression.speedup.mask_conflict', logging.ERROR)
    # for its log NNI counts every mask at every node, a third of the time
    uncounted = patch.object(model_speedup, 'sparsity_stats', lambda mask: '')
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere), uncounted:
        speedup.speedup_model()
    return generator.eval().requires_grad_(False)


def _quiet(name: str, level: int = logging.WARNING) -> logging.Logger:
    """NNI reports every node, and warns of masks that meet in an addition."""
    logger = logging.getLogger(name)
    logger.setLevel(level)
    return logger
