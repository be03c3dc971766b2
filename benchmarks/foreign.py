"""What is left of MMagic's models pruned by half: a table of docs/foreign.md.

python benchmarks/foreign.py     # at full size, about two minutes
"""

import argparse
import os.path as osp
import re
import sys
from glob import glob
from typing import List

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from tables import put_into_page, table

from ppcd_mmagic.channels import (
    complexity,
    discard_channels,
    largest_difference,
    link_masks,
    named_masks,
    outputs_of,
)
from ppcd_mmagic.checkpoints import build_generator
from ppcd_mmagic.generators import example_inputs

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
PAGE = osp.join(ROOT, 'docs', 'foreign.md')
HEAD = (
    'config',
    'generator',
    'convolutions masked',
    'parameters',
    'left',
    'multiply-adds',
    'left',
    'largest difference',
    'measured',
)
MEASURED = dict.fromkeys(
    ['edsr_x2_photographs', 'pix2pix_photographs'], 'quality and latency, below'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Build the generator of each config in configs/foreign/, '
        'discard half of the channels of every mask, and write the table of '
        'docs/foreign.md.'
    )
    parser.add_argument(
        '--configs',
        nargs='+',
        metavar='NAME',
        help='only these, printed but not written (default: all)',
    )
    return parser.parse_args()


def line(name: str) -> List[str]:
    """One line of the table."""
    generator = build_generator(
        Config.fromfile(osp.join(ROOT, 'configs', 'foreign', f'{name}.py'))
    )
    generator.requires_grad_(False).double()
    inputs = example_inputs(generator, batch=1)
    before = complexity(generator, inputs)
    masks = dict(named_masks(generator))
    before['parameters'] -= sum(
        {mask.weight: mask.channels for mask in masks.values()}.values()
    )
    torch.manual_seed(0)
    for mask in masks.values():
        mask.weight.data.uniform_()
        mask.prune(mask.channels // 2)
    smaller = discard_channels(generator, inputs)
    after = complexity(smaller, inputs)
    masked = re.search(
        r'masks on (\d+ of \d+) convolutions',
        str(link_masks(generator, inputs)),
    )
    cells = [f'{name}.py', type(generator).__name__, masked[1]]
    for key in before:
        cells += [
            f'{before[key] / 1e6:,.2f} M',
            f'{after[key] / before[key]:.0%}',
        ]
    difference = largest_difference(
        outputs_of(generator, inputs), outputs_of(smaller, inputs)
    )
    return [*cells, f'{difference:.1g}', MEASURED.get(name, 'size')]


def names() -> List[str]:
    """Configs with masks."""
    found = (
        osp.splitext(osp.basename(path))[0]
        for path in sorted(glob(osp.join(ROOT, 'configs', 'foreign', '*.py')))
    )
    return [name for name in found if not name.endswith('_dense')]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    MMLogger.get_instance('foreign', log_level='ERROR')
    DefaultScope.get_instance('foreign', scope_name='ppcd_mmagic')
    text = table([HEAD, *map(line, args.configs or names())])
    print(text)
    if not args.configs:
        put_into_page(PAGE, 'sizes', text)


if __name__ == '__main__':
    sys.exit(main())
