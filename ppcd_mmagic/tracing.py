"""Symbolic traces of MMagic's generators, and who reads whose channels.

MMagic's generators branch on the type and shape of their inputs, which stock
``torch.fx`` cannot follow. Here noise and label answer those questions like
the tensors they stand for, so the generators' own forward functions are
traced; there is no second copy of them.
"""
import inspect
import operator
from dataclasses import dataclass, field
from typing import Iterator, List, Set, Tuple

import torch
import torch.nn as nn
from mmagic.models.editors.biggan.biggan_modules import (BigGANConditionBN,
                                                         SelfAttentionBlock)
from mmagic.models.editors.sagan.sagan_modules import SNConditionNorm
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import fx

CONDITIONAL_NORMS = (SNConditionNorm, BigGANConditionBN)
NORMS = CONDITIONAL_NORMS + (_BatchNorm, )
_LEAVES = CONDITIONAL_NORMS + (SelfAttentionBlock, nn.Conv2d, nn.Linear,
                               nn.Embedding)


class _InputProxy(fx.Proxy):
    """A model input that passes for a tensor of known rank and width."""

    @property
    def __class__(self):
        return torch.Tensor

    @property
    def ndim(self) -> int:
        return 1 + len(self.tracer.input_sizes[self.node.name])

    @property
    def shape(self) -> tuple:
        return (self.size(0), *self.tracer.input_sizes[self.node.name])


class _Tracer(fx.Tracer):

    def __init__(self, input_sizes: dict) -> None:
        super().__init__()
        self.input_sizes = input_sizes

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, _LEAVES) or super().is_leaf_module(
            module, name)

    def create_arg(self, value):
        if type(value) is _InputProxy:  # isinstance would call it a tensor
            return value.node
        return super().create_arg(value)

    def iter(self, value: fx.Proxy) -> Iterator:
        """Follow BigGAN's loop over the chunks of the noise, whose number is
        known from its width."""
        node = value.node
        if node.target is operator.getitem and isinstance(node.args[1], slice):
            chunks, which = node.args
            if chunks.target is torch.split:
                number = self.input_sizes['noise'][0] // chunks.args[1]
                return iter([
                    fx.Proxy(chunks, self)[i] for i in range(number)[which]
                ])
        return super().iter(value)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        if node.op == 'placeholder' and node.name in self.input_sizes:
            return _InputProxy(node, self)
        return super().proxy(node)


def trace(generator: nn.Module) -> fx.GraphModule:
    """Trace ``generator(noise, label=label)``, other arguments at defaults.

    Convolutions, linear layers, embeddings, conditional norms and
    self-attention stay whole. A module whose first argument is not called
    ``noise`` is traced by ``torch.fx`` as it stands.

    Raises:
        ValueError: If ``torch.fx`` cannot follow the forward function.
    """
    arguments = inspect.signature(generator.forward).parameters
    sizes, fixed = {}, None
    if 'noise' in arguments:
        sizes = {'noise': (generator.noise_size, )}
        if getattr(generator, 'num_classes', 0):
            sizes['label'] = ()
        fixed = {
            name: argument.default
            for name, argument in arguments.items() if name not in sizes
        }
    try:
        graph = _Tracer(sizes).trace(generator, fixed)
    except Exception as error:
        raise ValueError(
            f'torch.fx cannot trace {type(generator).__name__}, so it is '
            'unknown which layers read the masked channels. Its forward must '
            f'not branch on tensor values. ({error})') from error
    traced = fx.GraphModule(generator, graph)
    _drop_fixed_arguments(traced.graph, sizes)
    traced.recompile()
    return traced


def _drop_fixed_arguments(graph: fx.Graph, inputs: dict) -> None:
    """Leave ``inputs`` as the only arguments, in that order, on any device."""
    for node in reversed(list(graph.nodes)):
        if node.op == 'call_function' and 'assert' in str(node.target):
            graph.erase_node(node)
        elif node.op == 'call_method' and node.target == 'to':
            node.replace_all_uses_with(node.args[0])
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if inputs and node.op == 'placeholder' and node.name not in inputs:
            graph.erase_node(node)
    graph.lint()


@dataclass
class ChannelUser:
    """Layers that take in the same channels, and who writes those.

    Attributes:
        reads: Convolutions whose input channels these are.
        adds: Convolutions that only add to them on the way (attention's o).
        norms: Norms that pass them on.
        writers: Convolutions whose output channels these are.
        has_other_writers: Whether something else writes them as well.
    """
    reads: List[str] = field(default_factory=list)
    adds: List[str] = field(default_factory=list)
    norms: List[str] = field(default_factory=list)
    writers: List[str] = field(default_factory=list)
    has_other_writers: bool = False


def channel_users(traced: fx.GraphModule) -> Iterator[ChannelUser]:
    """Yield a :class:`ChannelUser` for each convolution, attention block and
    norm."""
    for node in traced.graph.nodes:
        if node.op != 'call_module':
            continue
        module = traced.get_submodule(node.target)
        if isinstance(module, nn.Conv2d):
            user = ChannelUser(reads=[node.target])
        elif isinstance(module, SelfAttentionBlock):
            user = ChannelUser(
                reads=[
                    f'{node.target}.{name}.conv'
                    for name in ('theta', 'phi', 'g')
                ],
                adds=[f'{node.target}.o.conv'])
        elif isinstance(module, NORMS):
            user = ChannelUser(norms=[node.target])
        else:
            continue
        writers, others = _writers(traced, node.args[0])
        user.writers, user.has_other_writers = sorted(writers), others
        yield user


def _writers(traced: fx.GraphModule, node: fx.Node) -> Tuple[Set[str], bool]:
    """Who writes the channels of a value, looking back through everything
    that keeps channels apart (norms, activations, upsampling, additions)."""
    if node.op == 'placeholder':
        return set(), True
    sources = node.args[:1]
    if node.op == 'call_module':
        module = traced.get_submodule(node.target)
        if isinstance(module, nn.Conv2d):
            return {node.target}, False
        if isinstance(module, (nn.Linear, nn.Embedding)):
            return set(), True
    elif node.op == 'call_function':
        sources = node.args
    found = [
        _writers(traced, source) for source in sources
        if isinstance(source, fx.Node)
    ]
    return (set().union(*(writers for writers, _ in found)),
            any(others for _, others in found))
