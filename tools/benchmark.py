"""Speed of a generator: formats, layouts, and what it was before."""

import argparse
import json
import os.path as osp

import torch
from command_line import Settings, positive, read_config_file, run
from mmengine.registry import DefaultScope

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.speed import Speed, measure_speed, ways_of
from ppcd_mmagic.visualization import speed_bars


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure latency, throughput and memory of a trained or '
        'exported generator on this CPU, in every format that is there, beside '
        'the dense one and the teacher, and beside what the machine does in a '
        'matrix product.'
    )
    parser.add_argument('config', help='config of a training or of an export')
    parser.add_argument('checkpoint', help='its checkpoint or generator.pth')
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        type=positive,
        default=[1, 16],
        help='images at once (default: 1 16)',
    )
    parser.add_argument(
        '--rounds', type=positive, default=5, help='turns (default: 5)'
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='try torch.compile too, which takes minutes',
    )
    parser.add_argument(
        '--out-dir',
        default='work_dirs/benchmark',
        help='where speed.json, speed.md and speed.png go (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        help='override settings of the config, as key=value',
    )
    return parser.parse_args()


def table(found: list) -> str:
    """In Markdown; each batch size has the dense generator as its measure."""
    dense = {
        speed.batch_size: speed.milliseconds
        for speed in found
        if speed.name == 'dense'
    }
    lines = [
        '| generator | batch | latency | / dense | images a second | of the '
        "machine's limit | memory |",
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    lines += [
        f'| {speed.name} | {speed.batch_size} | {speed.milliseconds:.3g} ms | '
        f'{speed.milliseconds / dense[speed.batch_size]:.2f} | '
        f'{speed.images_per_second:,.1f} | {speed.limit:.0%} | '
        f'{speed.mebibytes:.0f} MiB |'
        for speed in found
    ]
    return '\n'.join(lines)


def write(found: list, out_dir: str) -> None:
    title = f'CPU, {torch.get_num_threads()} threads, torch {torch.__version__}'
    with written_whole(osp.join(out_dir, 'speed.json')) as path:
        with open(path, 'w') as file:
            json.dump([Speed._asdict(speed) for speed in found], file, indent=1)
    with written_whole(osp.join(out_dir, 'speed.md')) as path:
        with open(path, 'w') as file:
            file.write(f'{title}\n\n{table(found)}\n')
    with written_whole(osp.join(out_dir, 'speed.png')) as path:
        speed_bars(found).savefig(path, format='png', dpi=120)


def main() -> None:
    args = parse_args()
    config = read_config_file(args.config, args.cfg_options)
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        ways = ways_of(config, args.checkpoint, args.compile)
    make_folder(args.out_dir)  # before minutes are spent
    found = measure_speed(ways, args.batch_sizes, args.rounds)
    print(table(found))
    write(found, args.out_dir)
    print(f'written to {args.out_dir}')


if __name__ == '__main__':
    run(main)
