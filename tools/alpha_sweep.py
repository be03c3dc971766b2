"""Sweep of the compression ratio threshold (figures H and I)."""

import argparse
import os.path as osp
from copy import deepcopy
from typing import Dict, List, Tuple

from command_line import fraction, parse_experiment, run
from mmengine.config import Config

from ppcd_mmagic.experiments import (
    STUDENTS,
    Run,
    Table,
    changed,
    draw_picture_table,
    draw_pictures,
    labels_for,
    line_chart,
    of_one_seed,
    own_configs,
    read_config,
    run_all,
    runs_in_words,
    save_table,
    set_alpha,
)

MASKS = ['independent', 'shared']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train students at several alphas with independent and '
        'shared masks, and prune others after training; print and draw size, '
        'Fréchet distance and accuracy against alpha, and grids of pictures.'
    )
    parser.add_argument(
        '--alphas',
        type=fraction,
        nargs='+',
        default=[0.5, 0.6, 0.7, 0.8],
        help='default: 0.5 0.6 0.7 0.8',
    )
    parser.add_argument(
        '--masks',
        nargs='+',
        choices=MASKS,
        default=MASKS,
        help='of the students that are pruned while they train, see '
        'residual_masks of the generator (default: %(default)s)',
    )
    parser.add_argument(
        '--after-training',
        nargs='*',
        choices=list(AFTER_TRAINING),
        default=list(AFTER_TRAINING),
        help='for figure H: generators to prune after training and fine-tune '
        '(default: all)',
    )
    return parse_experiment(parser, 'alpha_sweep')


def sweep(args: argparse.Namespace, masks: str) -> List[Run]:
    """PPCD-GAN, pruned to every alpha while it trains."""
    base = changed(read_config(f'{STUDENTS[args.data]}_alpha06.py'), args)
    if masks != base.model.generator.get('residual_masks', 'independent'):
        base.model.generator.residual_masks = masks
    return [
        Run(
            f'{masks}, alpha {alpha}',
            set_alpha(base, alpha),
            seed,
            args.root,
            label=dict(method=f'PPCD-GAN, {masks}', alpha=alpha),
        )
        for alpha in args.alphas
        for seed in args.seeds
    ]


def sweep_after_training(args: argparse.Namespace, method: str) -> List[Run]:
    """One training that prunes nothing, then fine-tuning at every alpha."""
    student, change = STUDENTS[args.data], AFTER_TRAINING[method]
    before = change(changed(read_config(f'{student}_alpha00.py'), args))
    star = read_config(f'{student}_star_alpha06.py')
    if args.max_iters:  # it is half as long in the configs
        args = argparse.Namespace(
            **{**vars(args), 'max_iters': max(1, args.max_iters // 2)}
        )
    star = change(changed(star, args))
    return [
        Run(
            f'{method}, alpha {alpha}',
            set_alpha(star, alpha),
            seed,
            args.root,
            start=Run(f'{method} before pruning', before, seed, args.root),
            label=dict(method=method, alpha=alpha),
        )
        for alpha in args.alphas
        for seed in args.seeds
    ]


def without_teacher(config: Config) -> Config:
    config = deepcopy(config)
    config.model.teacher = None
    return config


def masked_biggan(config: Config) -> Config:
    config = without_teacher(config)
    config.model.generator = dict(
        config.biggan_generator, type='PPResBigGANGenerator'
    )
    return config


AFTER_TRAINING = {
    'PPCD-GAN*': deepcopy,
    'SA-GAN': without_teacher,
    'Big-GAN': masked_biggan,
}


def by_method(runs: List[Run]) -> Dict[str, Dict[float, Run]]:
    found = {}
    for run in runs:
        found.setdefault(run.label['method'], {})[run.label['alpha']] = run
    return found


def compared(runs: List[Run]) -> List[Tuple[str, str]]:
    """The first method with each of the others, at every alpha."""
    first, *others = by_method(runs).values()
    return [
        (first[alpha].name, other[alpha].name)
        for other in others
        for alpha in first
    ]


def main() -> None:
    args = parse_args()
    runs = [run for masks in args.masks for run in sweep(args, masks)]
    for method in args.after_training:
        runs += sweep_after_training(args, method)
    results = run_all(runs, args.jobs)
    save_table(
        Table(
            f'Sweep of alpha on {args.data}',
            runs_in_words(runs),
            results,
            compared(runs),
            own_configs(runs),
        ),
        args.root,
    )
    points = {
        method: {alpha: results[run.name] for alpha, run in series.items()}
        for method, series in by_method(runs).items()
    }
    line_chart(
        points, labels_for(results), 'alpha', osp.join(args.root, 'sweep.png')
    )
    first = of_one_seed(runs)
    students = [run for run in first if not run.start]
    draw_pictures(students, osp.join(args.root, 'figure_i.png'))
    draw_picture_table(
        {
            method: {f'α {alpha}': run for alpha, run in series.items()}
            for method, series in by_method(first).items()
        },
        osp.join(args.root, 'figure_h.png'),
    )


if __name__ == '__main__':
    run(main)
