"""Table A and figure A: class-aware against class-irrelevant distillation."""

import argparse
import os.path as osp

from command_line import parse_experiment, run
from mmengine.config import Config

from ppcd_mmagic.experiments import (
    Table,
    bar_chart,
    draw_leakage,
    draw_pictures,
    labels_for,
    make_runs,
    of_one_seed,
    own_configs,
    read_lines,
    run_all,
    runs_in_words,
    save_table,
)

LINES = {
    'PPCD-GAN (complete)': '{student}_alpha05.py',
    'PPCD-GAN w/o L_PP': '{student}_dense.py',
    'PPCD-GAN- (class-irrelevant)': '{student}_irrelevant_alpha05.py',
    'PPCD-GAN- w/o L_PP': '{student}_irrelevant_dense.py',
}

# class-aware against class-irrelevant, and what pruning costs
COMPARED = [
    ('PPCD-GAN (complete)', 'PPCD-GAN- (class-irrelevant)'),
    ('PPCD-GAN w/o L_PP', 'PPCD-GAN- w/o L_PP'),
    ('PPCD-GAN (complete)', 'PPCD-GAN w/o L_PP'),
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train, or read where they have been trained, the four '
        'models of Table A at alpha 0.5; print and draw the table, pictures '
        'and class leakage.'
    )
    parser.add_argument(
        '--classifier',
        metavar='PATH',
        help="for ImageNet: weights of torchvision's resnet50; adds class "
        'accuracy to the table',
    )
    args = parse_experiment(parser, 'table_a')
    if args.classifier and not osp.isfile(args.classifier):
        parser.error(
            f'--classifier: {args.classifier} not found; download '
            "the weights of resnet50 from torchvision's site there"
        )
    return args


def add_class_accuracy(config: Config, checkpoint: str) -> None:
    metrics = config.test_evaluator.metrics
    metrics.append(
        dict(
            type='ClassAccuracy',
            checkpoint=checkpoint,
            num_classes=config.model.num_classes,
            fake_nums=metrics[0].fake_nums,
            sample_model='ema',
        )
    )


def main() -> None:
    args = parse_args()
    lines = read_lines(LINES, args.data)
    if args.classifier:
        for config in lines.values():
            add_class_accuracy(config, osp.abspath(args.classifier))
    runs = make_runs(lines, args)
    results = run_all(runs, args.jobs)
    note = runs_in_words(runs)
    if any(key.endswith('/accuracy') for key in labels_for(results)):
        note += ' Class leakage is 1 - accuracy.'
    save_table(
        Table(
            f'Table A on {args.data}',
            note,
            results,
            COMPARED,
            own_configs(runs),
        ),
        args.root,
    )
    bar_chart(results, labels_for(results), osp.join(args.root, 'table.png'))
    first = of_one_seed(runs)
    draw_pictures(first, osp.join(args.root, 'pictures.png'))
    draw_leakage(first, osp.join(args.root, 'leakage.png'))


if __name__ == '__main__':
    run(main)
