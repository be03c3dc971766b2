"""The baselines of the paper, beside PPCD-GAN (figures B to D)."""

import argparse
import os.path as osp
from dataclasses import replace

from command_line import parse_experiment, run

from ppcd_mmagic.experiments import (
    STUDENTS,
    Table,
    bar_chart,
    draw_pictures,
    labels_for,
    make_runs,
    of_one_seed,
    own_configs,
    read_config,
    read_lines,
    run_all,
    runs_in_words,
    save_table,
    shorten,
)

LINES = {
    'PPCD-GAN': '{student}_alpha06.py',
    'PPCD-GAN+': 'ppcd_plus/ppcd_plus_{data}.py',
    'Big-GAN': 'biggan/biggan_{data}.py',
    'SA-GAN': 'sagan/sagan_{data}.py',
    'SN-GAN': 'sngan/sngan_{data}.py',
    'Tiny-GAN': 'tinygan/tinygan_{data}.py',
    'Tiny-GAN, small': 'tinygan/tinygan_small_{data}.py',
    'Distill only': 'distill_only/distill_only_{data}.py',
    'Distill only, small': 'distill_only/distill_only_small_{data}.py',
    'GAN Compression': 'gan_compression/gan_compression_{data}.py',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train the baselines and PPCD-GAN, all equally long; '
        'print and draw the table and pictures. PPCD-GAN* is pruned after '
        'such a training and fine-tuned for half as long again.'
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        choices=[*LINES, 'PPCD-GAN*'],
        default=[*LINES, 'PPCD-GAN*'],
        help='lines of the table to make (default: all)',
    )
    return parse_experiment(parser, 'baselines')


def pruned_afterwards(args: argparse.Namespace, length: int) -> list:
    """PPCD-GAN*, each seed from its own unpruned run."""
    student = STUDENTS[args.data]
    before = make_runs(
        {
            'PPCD-GAN before pruning': shorten(
                read_config(f'{student}_alpha00.py'), length
            )
        },
        args,
    )
    star = shorten(
        read_config(f'{student}_star_alpha06.py'), max(1, length // 2)
    )
    return [
        replace(run, start=start)
        for start, run in zip(before, make_runs({'PPCD-GAN*': star}, args))
    ]


def main() -> None:
    args = parse_args()
    lines = read_lines(LINES, args.data)
    length = args.max_iters or lines['PPCD-GAN'].train_cfg.max_iters
    args.max_iters = None
    asked = {
        name: shorten(config, length)
        for name, config in lines.items()
        if name in args.lines
    }
    runs = make_runs(asked, args)
    if 'PPCD-GAN*' in args.lines:
        runs += pruned_afterwards(args, length)
    results = run_all(runs, args.jobs)
    save_table(
        Table(
            f'Baselines on {args.data}',
            runs_in_words(runs),
            results,
            [('PPCD-GAN+', name) for name in results if name != 'PPCD-GAN+'],
            own_configs(runs),
        ),
        args.root,
    )
    bar_chart(results, labels_for(results), osp.join(args.root, 'table.png'))
    draw_pictures(of_one_seed(runs), osp.join(args.root, 'pictures.png'))


if __name__ == '__main__':
    run(main)
