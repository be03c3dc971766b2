"""What each part of PPCD-GAN+ contributes: one taken out, added or changed."""

import argparse
import os.path as osp
from copy import deepcopy
from typing import Callable, Dict

from command_line import parse_experiment, run
from mmengine.config import Config

from ppcd_mmagic.experiments import (
    Run,
    Table,
    bar_chart,
    changed,
    labels_for,
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


def with_attention(config: Config) -> None:
    config.model.distillation_loss.insert(0, config.ppcd.distillation_loss)


def with_real_pictures(config: Config) -> None:
    config.model.teacher_as_real = 0.0


def with_independent_masks(config: Config) -> None:
    config.model.generator.residual_masks = 'independent'


def with_whole_first_layer(config: Config) -> None:
    config.model.generator.masked_linears = []


CHANGES: Dict[str, Callable[[Config], None]] = {
    'with attention': with_attention,
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
        description='Train PPCD-GAN+, and it with one of its parts taken '
        "out or changed, or PPCD-GAN's attention added; print and draw the "
        'table.'
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        choices=list(CHANGES),
        default=list(CHANGES),
        help='what to leave out, add or change (default: all, one by one)',
    )
    return parse_experiment(parser, 'ablation')


def lines_of(args: argparse.Namespace) -> Dict[str, Config]:
    """With what the command line says of all of them: of the whole, or a
    number in its list of losses would mean another one in another line."""
    whole = changed(read_config(f'ppcd_plus/ppcd_plus_{args.data}.py'), args)
    lines = {WHOLE: whole}
    for name in args.lines:
        lines[name] = deepcopy(whole)
        CHANGES[name](lines[name])
    return lines


def main() -> None:
    args = parse_args()
    runs = [
        Run(name, config, seed, args.root)
        for name, config in lines_of(args).items()
        for seed in args.seeds
    ]
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
