"""What the rewriting of a graph asks of its nodes."""

from typing import Any, List, Optional, cast

import torch.fx as fx
from torch import Tensor


def arguments(node: fx.Node) -> List[Any]:
    """Of a call, by position."""
    return list(node.args)


def constant(graph: fx.GraphModule, node: Any) -> Optional[Tensor]:
    """The value of a weight or buffer in float64, None of anything else."""
    if not isinstance(node, fx.Node) or node.op != 'get_attr':
        return None
    value: Any = graph
    for name in str(node.target).split('.'):
        value = getattr(value, name)
    return cast(Tensor, value).detach().double()


def new_constant(
    graph: fx.GraphModule, name: str, value: Tensor, like: fx.Node
) -> fx.Node:
    """A buffer with the precision that the value of ``like`` has, and the
    node that reads it."""
    graph.register_buffer(name, value.to(like.meta['val'].dtype).contiguous())
    return graph.graph.get_attr(name)


def drop_unused(graph: fx.GraphModule) -> None:
    """Take out nodes whose value nothing reads, and weights that no node
    reads: they would be written to files."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    read = {n.target for n in graph.graph.nodes if n.op == 'get_attr'}
    for name, _ in [*graph.named_parameters(), *graph.named_buffers()]:
        if name not in read:
            owner, _, own = name.rpartition('.')
            delattr(graph.get_submodule(owner), own)
    graph.recompile()
