"""What of each generator can be discarded: the table of docs/generators.md.

python benchmarks/generators.py     # about two minutes
"""

import argparse
import os.path as osp
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import List, Tuple

import torch
import torch.nn as nn
import torch_pruning
from mmengine.registry import DefaultScope
from peers import dead_by_writer
from tables import put_into_page, table
from tqdm import tqdm

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, osp.join(ROOT, 'tests'))  # the generators are the tests'
from channel_checks import call, prune_some  # noqa: E402
from zoo import ZOO, build  # noqa: E402

from ppcd_mmagic.channels import (  # noqa: E402
    discard_channels,
    fold_computed_weights,
    largest_difference,
    link_masks,
    mask_channels,
)
from ppcd_mmagic.channels.speedup import fold_masks  # noqa: E402
from ppcd_mmagic.errors import PPCDError  # noqa: E402

PAGE = osp.join(ROOT, 'docs', 'generators.md')
HEAD = (
    'generator',
    'masked',
    'left, tied',
    'left, independent',
    'largest difference',
    f'Torch-Pruning {torch_pruning.__version__}',
)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def masked(name: str, tie: bool) -> tuple:
    """A generator with half of each mask pruned, its inputs, and how many
    parameters it had."""
    module, inputs = build(name)
    before = parameters(module)
    channels = mask_channels(module, inputs, tie=tie)
    prune_some(module)
    return module, inputs, channels, before


def ours(name: str, tie: bool) -> Tuple[float, float, int]:
    """Fraction of the parameters left, largest difference, masked layers."""
    module, inputs, channels, before = masked(name, tie)
    smaller = discard_channels(module, inputs)
    return (
        parameters(smaller) / before,
        largest_difference(call(module, inputs), call(smaller, inputs)),
        len(channels.masks),
    )


def torch_prunings(name: str) -> str:
    """What Torch-Pruning makes of the same tied masks."""
    module, inputs, _, before = masked(name, tie=True)
    expected = call(module, inputs)
    fold_computed_weights(module)
    channels = link_masks(module, inputs)
    dead = dead_by_writer(channels)
    fold_masks(channels)
    keywords = inputs[-1] if isinstance(inputs[-1], dict) else {}
    args = inputs[:-1] if isinstance(inputs[-1], dict) else inputs
    try:
        with redirect_stdout(StringIO()):
            graph = torch_pruning.DependencyGraph().build_dependency(
                module.requires_grad_(True),
                example_inputs=inputs,
                forward_fn=lambda model, _: model(*args, **keywords),
            )
            for layer, indices in dead.items():
                graph.get_pruning_group(
                    module.get_submodule(layer),
                    torch_pruning.prune_conv_out_channels,
                    idxs=indices,
                ).prune()
        difference = largest_difference(expected, call(module, inputs))
    except Exception as error:  # another library's, of any kind
        return f'{type(error).__name__}'
    return f'{parameters(module) / before:.0%}, {difference:.1g}'


def line(name: str) -> List[str]:
    """One line of the table."""
    try:
        tied, difference, _ = ours(name, tie=True)
        independent, other, count = ours(name, tie=False)
    except PPCDError as error:
        return [name, f'refused: {error}'] + [''] * 4
    return [
        name,
        str(count),
        f'{tied:.0%}',
        f'{independent:.0%}',
        f'{max(difference, other):.1g}',
        torch_prunings(name),
    ]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    return parser.parse_args()


def main() -> None:
    parse_args()
    torch.set_num_threads(1)
    DefaultScope.get_instance('generators', scope_name='ppcd_mmagic')
    text = table([HEAD, *map(line, tqdm(ZOO, unit='generator'))])
    put_into_page(PAGE, 'table', text)
    print(text)


if __name__ == '__main__':
    main()
