"""What each part of PPCD-GAN+ contributes: it without one part at a time."""

import argparse
import os.path as osp
from copy import deepcopy
from typing import Callable, Dict

from command_line import parse_experiment, run
from mmengine.config import Config

from ppcd_mmagic.experiments import (
    Table,
    bar_chart,
    labels_for,
    make_runs,
    own_configs,
    read_config,
    run_all,
    runs_in_words,
    save_table,
)

WHOLE = 'PPCD-GAN+'


def without_loss(kind: str) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        losses = config.model.distillation_loss
        config.model.distillation_loss = [
            loss for loss in losses if loss.type != kind
        ]

    return change


def with_real_pictures(config: Config) -> None:
    config.model.teacher_as_real = 0.0


def with_independent_masks(config: Config) -> None:
    config.model.generator.residual_masks = 'independent'


def with_whole_first_layer(config: Config) -> None:
    config.model.generator.masked_linears = []


CHANGES: Dict[str, Callable[[Config], None]] = {
    'without attention': without_loss('AttentionDistillationLoss'),
    'without pixels': without_loss('PixelDistillationLoss'),
    'without features of the discriminator': without_loss(
        'DiscriminatorFeatureLoss'
    ),
    "real pictures, not the teacher's": with_real_pictures,
    'independent masks': with_independent_masks,
    'no mask on the first layer': with_whole_first_layer,
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train PPCD-GAN+, and it without one of its parts; print '
        'and draw the table.'
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        choices=list(CHANGES),
        default=list(CHANGES),
        help='what to leave out or change (default: all, one by one)',
    )
    return parse_experiment(parser, 'ablation')


def lines_of(args: argparse.Namespace) -> Dict[str, Config]:
    whole = read_config(f'ppcd_plus/ppcd_plus_{args.data}.py')
    lines = {WHOLE: whole}
    for name in args.lines:
        lines[name] = deepcopy(whole)
        CHANGES[name](lines[name])
    return lines


def main() -> None:
    args = parse_args()
    runs = make_runs(lines_of(args), args)
    results = run_all(runs, args.jobs)
    save_table(
        Table(
            f'Parts of PPCD-GAN+ on {args.data}',
            runs_in_words(runs),
            results,
            [(name, WHOLE) for name in args.lines],
            own_configs(runs),
        ),
        args.root,
    )
    bar_chart(results, labels_for(results), osp.join(args.root, 'table.png'))


if __name__ == '__main__':
    run(main)
