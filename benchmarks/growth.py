"""How cost grows with width, resolution and classes: docs/speed.md.

python benchmarks/growth.py         # about ten minutes on two cores
"""

import argparse
import json
import os.path as osp
import platform
import resource
import subprocess
import sys
import time
import warnings
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import matplotlib
import torch
from cases import Scale, Trainer, generator_cfg, inputs, prune
from mmengine.registry import init_default_scope
from tables import put_into_page, table
from tqdm import tqdm

from ppcd_mmagic.channels import (
    complexity,
    discard_channels,
    fold_computed_weights,
    link_masks,
)
from ppcd_mmagic.channels.analysis import analyse, record_channels
from ppcd_mmagic.channels.masks import output_gates, suspended_gates
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
PAGE = osp.join(ROOT, 'docs', 'speed.md')
# what is held while one thing grows
HELD = dict(width=32, resolution=64, classes=100)
GROWING: Dict[str, Tuple[int, ...]] = dict(
    width=(16, 32, 64, 128),
    resolution=(64, 128, 256, 512),
    classes=(10, 100, 1000, 10000),
)
# no step: its discriminator would be another network to pay for
LARGEST = dict(width=96, resolution=512, classes=1000)
TIMES = ('inference', 'recording', 'analysis', 'export', 'step')
BATCH = 2


class Cost(NamedTuple):
    """Of one generator; times in seconds, memory in MiB."""

    parameters: int
    multiply_adds: int
    inference: float
    recording: float
    analysis: float
    export: float
    memory: float  # most that the process held up to the end of the export
    step: float


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure recording, analysis, export and a training step '
        'of masked BigGAN generators that grow in one way each; print a '
        'table, put it into docs/speed.md and draw it.'
    )
    parser.add_argument(
        '--grow',
        nargs='+',
        choices=[*GROWING, 'largest'],
        default=[*GROWING, 'largest'],
        help='what grows, or the largest alone (default: all)',
    )
    parser.add_argument('--rounds', type=int, default=3, help='default: 3')
    parser.add_argument(
        '--most', type=int, help='only as far as this width, size or number'
    )
    parser.add_argument(
        '--out',
        metavar='FOLDER',
        help='write table and figure there, not into docs/',
    )
    parser.add_argument('--point', type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def fastest(function: Callable, rounds: int) -> Tuple[float, Any]:
    """The shortest of several times, and what came of the last."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def measured(
    width: int, resolution: int, classes: int, rounds: int, step: bool
) -> Cost:
    """The costs of one generator, in this process."""
    scale = Scale(resolution, width, width, classes, attention=0)
    masked = dict(
        type='MaskedGenerator',
        generator=generator_cfg(scale, 'BigGANGenerator'),
        tie=True,
    )
    generator = MODELS.build(masked).eval()
    fold_computed_weights(generator)
    example = example_inputs(generator)
    link_masks(generator, example)
    size = complexity(generator, example_inputs(generator, batch=1))
    inference, _ = fastest(partial(draw, generator), rounds)
    with suspended_gates():
        recording, graph = fastest(
            partial(record_channels, generator, example), rounds
        )
        analysis, _ = fastest(
            partial(analyse, generator, graph, list(output_gates(generator))),
            rounds,
        )
    del graph
    prune(generator, 0.5)
    export, _ = fastest(partial(discard_channels, generator, example), rounds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    del generator, _
    seconds = float('nan')
    if step:
        trainer = Trainer(
            scale._replace(batch=BATCH),
            'cpu',
            masked,
            blocks_of_discriminator(resolution),
        )
        seconds, _ = fastest(trainer, rounds)
    return Cost(
        **size,
        inference=inference,
        recording=recording,
        analysis=analysis,
        export=export,
        memory=memory,
        step=seconds,
    )


def blocks_of_discriminator(resolution: int) -> dict:
    """MMagic names those of up to 128 pixels only."""
    if resolution <= 128:
        return {}
    halved = resolution.bit_length() - 4  # the last one stays at 4 pixels
    return dict(
        channels_cfg=[1] * (halved - 5) + [1, 2, 4, 8, 16, 16],
        downsample_cfg=[True] * halved + [False],
    )


@torch.no_grad()
def draw(generator: torch.nn.Module) -> None:
    noise, label = inputs(generator, BATCH)
    generator(noise, label=label)


def measured_apart(point: dict, rounds: int, step: bool) -> Cost:
    """See :func:`measured`; in a process of its own, for its memory."""
    run = subprocess.run(
        [
            sys.executable,
            __file__,
            '--point',
            json.dumps(dict(point, step=step, rounds=rounds)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Cost(**json.loads(run.stdout.splitlines()[-1]))


def in_words(point: dict) -> str:
    return (
        f'{point["resolution"]} px, width {point["width"]}, '
        f'{point["classes"]:,} classes'
    )


def row(name: str, cost: Cost) -> List[str]:
    return [
        name,
        f'{cost.parameters / 1e6:.2f} M',
        f'{cost.multiply_adds / 1e9:.2f} G',
        *(
            '' if seconds != seconds else f'{seconds:.2f} s'
            for seconds in (getattr(cost, key) for key in TIMES)
        ),
        f'{cost.memory:,.0f} MiB',
    ]


def growth(first: Cost, last: Cost) -> List[str]:
    """How often as much the last one costs."""
    return [
        'grows by',
        *(
            f'{getattr(last, key) / getattr(first, key):.2f}'
            for key in ('parameters', 'multiply_adds', *TIMES, 'memory')
        ),
    ]


def rows_of(found: Dict[str, List[Tuple[dict, Cost]]]) -> List[List[str]]:
    rows = [['', 'parameters', 'multiply-adds', *TIMES, 'memory']]
    for costs in found.values():
        rows += [row(in_words(point), cost) for point, cost in costs]
        if len(costs) > 1:
            rows.append(growth(costs[0][1], costs[-1][1]))
    return rows


def plot(found: Dict[str, List[Tuple[dict, Cost]]], path: str) -> None:
    """Times over what grows, both logarithmic; dotted, the network itself."""
    figure, axes = plt.subplots(
        1, len(found), figsize=(3.8 * len(found), 3.6), squeeze=False
    )
    for axis, (grows, costs) in zip(axes[0], found.items()):
        xs = [point[grows] for point, _ in costs]
        for key in TIMES:
            axis.plot(
                xs, [getattr(c, key) for _, c in costs], marker='o', label=key
            )
        start = costs[0][1]
        for key, style in (('parameters', ':'), ('multiply_adds', '--')):
            axis.plot(
                xs,
                [
                    start.inference * getattr(c, key) / getattr(start, key)
                    for _, c in costs
                ],
                style,
                color='gray',
                label=f'as {key.replace("_", "-")} grow',
            )
        axis.set(xscale='log', yscale='log', xlabel=grows)
        axis.set_xticks(xs, [f'{x:,}' for x in xs])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel('seconds')
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc='lower center', ncol=4
    )
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(path, dpi=130)


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    if args.point:
        init_default_scope('ppcd_mmagic')
        print(json.dumps(measured(**args.point)._asdict()))
        return
    points = [
        (grows, dict(HELD, **{grows: value}))
        for grows in args.grow
        if grows in GROWING
        for value in GROWING[grows]
        if value <= (args.most or value)
    ]
    if 'largest' in args.grow:
        points.append(('largest', LARGEST))
    found: Dict[str, List[Tuple[dict, Cost]]] = {}
    for grows, point in tqdm(points, unit='generator'):
        largest = grows == 'largest'
        cost = measured_apart(
            point, 1 if largest else args.rounds, step=not largest
        )
        found.setdefault(grows, []).append((point, cost))
    text = (
        f'{platform.machine()} CPU, {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}; batch {BATCH}, the fastest of {args.rounds} '
        f'({in_words(LARGEST)}: once).\n\n' + table(rows_of(found))
    )
    print(text)
    lines = {key: costs for key, costs in found.items() if key in GROWING}
    whole = set(found) == {*GROWING, 'largest'} and args.most is None
    folder = args.out or (osp.dirname(PAGE) if whole else None)
    if folder is None:
        print('a part alone: docs/ stays as it is, --out keeps this elsewhere')
    elif lines:
        plot(lines, osp.join(folder, 'growth.png'))
    if args.out:
        with open(osp.join(args.out, 'growth.md'), 'w') as file:
            file.write(text + '\n')
    elif whole:
        put_into_page(PAGE, 'growth', text)


if __name__ == '__main__':
    main()
