"""A budget for the whole generator against the same alpha for all masks."""

import argparse
from typing import Dict, Sequence

import torch
from command_line import add_experiment_arguments, fraction, run
from mmengine.config import Config

from ppcd_mmagic.channels import complexity, link_masks, remaining_complexity
from ppcd_mmagic.checkpoints import build_generator
from ppcd_mmagic.engine.hooks.pruning_plan import cap
from ppcd_mmagic.experiments import (
    Table,
    STUDENTS,
    Run,
    make_runs,
    pruning_hooks,
    read_config,
    run_all,
    save_table,
    seeds_in_words,
    set_alpha,
    set_budget,
)
from ppcd_mmagic.generators import example_inputs


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train students with shared masks that prune the same '
        'fraction of every mask, and others that reach the same multiply-adds '
        'or the same number of parameters by a budget; print a table.'
    )
    parser.add_argument(
        '--alpha',
        type=fraction,
        default=0.8,
        help='of the students without a budget (default: 0.8)',
    )
    parser.add_argument(
        '--cap',
        type=fraction,
        default=0.95,
        help='alpha of the others, the most that a layer may lose (default: '
        '0.95)',
    )
    parser.add_argument(
        '--same',
        nargs='+',
        choices=['multiply_adds', 'parameters'],
        default=['multiply_adds', 'parameters'],
        help='what the budgets are of (default: %(default)s)',
    )
    add_experiment_arguments(parser, 'work_dirs/budget')
    return parser.parse_args()


def lines_of(
    alpha: float, most: float, same: Sequence[str], data: str
) -> Dict[str, Config]:
    """The student of one alpha, and those of the same size."""
    base = read_config(f'{STUDENTS[data]}_alpha06.py')
    base.model.generator.residual_masks = 'shared'
    uniform = set_alpha(base, alpha)
    size = size_of(uniform)
    return {
        f'alpha {alpha}': uniform,
        **{
            f'same {what.replace("_", "-")}': set_budget(
                base, {what: size[what]}, most
            )
            for what in same
        },
    }


@torch.no_grad()
def size_of(config: Config) -> Dict[str, int]:
    """What a student has when all masks are pruned as far as alpha says;
    with shared masks it does not matter which channels fall."""
    generator = build_generator(config)
    (pruning,) = pruning_hooks(config)
    channels = link_masks(generator, example_inputs(generator))
    for mask in channels.masks.values():
        mask.prune(cap(pruning.alpha, mask.channels))
    return remaining_complexity(channels)


def multiply_adds(done: Run) -> int:
    generator = done.generator()
    return complexity(generator, example_inputs(generator, batch=1))[
        'multiply_adds'
    ]


def main() -> None:
    args = parse_args()
    lines = lines_of(args.alpha, args.cap, args.same, args.data)
    runs = make_runs(lines, args)
    results = run_all(runs, args.jobs)
    for name, found in results.items():
        same = [done for done in runs if done.name == name]
        for done, metrics in zip(same, found):
            metrics['multiply_adds'] = multiply_adds(done)
    length = runs[0].config.train_cfg.max_iters
    save_table(
        Table(
            'A budget against alpha',
            f'{seeds_in_words(args.seeds)} {length} iterations each.',
            results,
            [(name, next(iter(lines))) for name in list(lines)[1:]],
        ),
        args.root,
    )


if __name__ == '__main__':
    run(main)
