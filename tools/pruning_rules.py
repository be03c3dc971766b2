"""What falls when: a schedule, the paper's threshold (Eq. 3), a budget."""

import argparse
import os.path as osp
from typing import List

from command_line import fraction, parse_experiment, run
from mmengine.config import Config

from ppcd_mmagic.experiments import (
    STUDENTS,
    Run,
    Table,
    changed,
    draw_sparsity,
    of_one_seed,
    own_configs,
    read_config,
    run_all,
    runs_in_words,
    save_table,
    set_alpha,
    set_budget,
    size_of,
)

# configs of those that prune up to alpha in every mask
RULES = dict(
    cubic='{student}_alpha06.py', threshold='{student}_threshold_alpha06.py'
)
SIZES = ('multiply_adds', 'parameters')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train students that lose up to the same fraction of '
        'every mask, by a schedule and by the threshold of Eq. 3, and others '
        'that get to the size of the first by a budget, seed by seed; print '
        'a table, and draw how the masks of every layer were pruned.'
    )
    parser.add_argument(
        '--alpha',
        type=fraction,
        default=0.6,
        help='of the students without a budget (default: 0.6)',
    )
    parser.add_argument(
        '--cap',
        type=fraction,
        default=0.95,
        help='alpha of the others, the most that a layer may lose (default: '
        '0.95)',
    )
    parser.add_argument(
        '--rules',
        nargs='+',
        choices=list(RULES),
        default=list(RULES),
        help='those without a budget; budgets are of the size of the first '
        '(default: all)',
    )
    parser.add_argument(
        '--budgets',
        nargs='*',
        choices=SIZES,
        default=['parameters'],
        help='what the budgets are of (default: %(default)s)',
    )
    parser.add_argument(
        '--masks',
        choices=['independent', 'shared'],
        help="see residual_masks of the generator (default: the config's)",
    )
    return parse_experiment(parser, 'pruning_rules')


def runs_by_alpha(args: argparse.Namespace) -> List[Run]:
    """Those without a budget, rule by rule."""
    runs = []
    for rule in args.rules:
        config = set_alpha(student(RULES[rule], args), args.alpha)
        runs += [
            Run(f'{rule}, alpha {args.alpha}', config, seed, args.root)
            for seed in args.seeds
        ]
    return runs


def student(file: str, args: argparse.Namespace) -> Config:
    config = changed(
        read_config(file.format(student=STUDENTS[args.data])), args
    )
    if args.masks:
        config.model.generator.residual_masks = args.masks
    return config


def runs_of_same_size(args: argparse.Namespace, others: List[Run]) -> List[Run]:
    """Those with a budget, each of the size of the run of its seed."""
    base = student(RULES['cubic'], args)
    sizes = [size_of(other) for other in others]
    return [
        Run(
            f'budget, same {what.replace("_", "-")}',
            set_budget(base, {what: size[what]}, args.cap),
            other.seed,
            args.root,
        )
        for what in args.budgets
        for other, size in zip(others, sizes)
    ]


def main() -> None:
    args = parse_args()
    runs = runs_by_alpha(args)
    results = run_all(runs, args.jobs)
    others = runs_of_same_size(args, runs[: len(args.seeds)])
    if others:
        results.update(run_all(others, args.jobs))
        runs += others
    first, *rest = results
    save_table(
        Table(
            f'Rules of pruning on {args.data}',
            runs_in_words(runs),
            results,
            [(name, first) for name in rest],
            own_configs(runs),
        ),
        args.root,
    )
    draw_sparsity(of_one_seed(runs), osp.join(args.root, 'sparsity.png'))


if __name__ == '__main__':
    run(main)
