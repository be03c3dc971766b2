"""Sweep of the compression ratio threshold (figures H and I)."""
import argparse
import os.path as osp

import torch
from experiments import (Run, add_arguments, changed, labels_for, line_chart,
                         run_all, save_table, set_alpha)
from mmengine.config import Config

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.models import build_trained_generator
from ppcd_mmagic.visualization import class_grids

CONFIG = osp.join(
    osp.dirname(__file__), '..', 'configs', 'ppcd_digits_16_alpha06.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train students at several alphas with independent and '
        'shared masks; print and draw size, Fréchet distance and accuracy '
        'against alpha, and the grid of pictures.')
    parser.add_argument(
        '--config', default=CONFIG, help='student to sweep (default: digits)')
    parser.add_argument(
        '--alphas',
        type=float,
        nargs='+',
        default=[0.5, 0.6, 0.7, 0.8],
        help='default: 0.5 0.6 0.7 0.8')
    add_arguments(parser, 'work_dirs/alpha_sweep')
    return parser.parse_args()


def make_sweep(args: argparse.Namespace) -> list:
    base = changed(Config.fromfile(args.config), args)
    runs = []
    for masks in ('independent', 'shared'):
        for alpha in args.alphas:
            config = set_alpha(base, alpha)
            config.model.generator.residual_masks = masks
            runs += [
                Run(f'{masks}, alpha {alpha}', config, seed, args.root,
                    dict(masks=masks, alpha=alpha)) for seed in args.seeds
            ]
    return runs


@torch.no_grad()
def draw_grid(runs: list, path: str, columns: int = 4) -> None:
    """Figure I: the same noise and classes at every alpha, first seed."""
    pictures = {}
    for run in runs:
        if run.seed != runs[0].seed:
            continue
        folder = osp.join(run.work_dir, 'export')
        generator = build_trained_generator(
            Config.fromfile(osp.join(folder, 'config.py')),
            osp.join(folder, 'generator.pth'), 'exported')
        torch.manual_seed(0)
        classes = min(generator.num_classes, 10)
        labels = torch.arange(classes).repeat_interleave(columns)
        noise = torch.randn(len(labels), generator.noise_size)
        pictures[run.name.replace(', ', '\n')] = generator(noise, label=labels)
    names = [str(label) for label in range(classes)]
    class_grids(pictures, names, columns, width=1.6).savefig(path, dpi=130)
    print(f'drawn to {path}')


def main() -> None:
    args = parse_args()
    runs = make_sweep(args)
    results = run_all(runs, args.jobs)
    save_table(results, args.root, 'Sweep of alpha',
               f'Mean and standard deviation over {len(args.seeds)} seeds.')
    points = {}
    for run in runs:
        series = points.setdefault(run.label['masks'], {})
        series[run.label['alpha']] = results[run.name]
    line_chart(points, labels_for(results), 'alpha',
               osp.join(args.root, 'sweep.png'))
    draw_grid(runs, osp.join(args.root, 'grid.png'))


if __name__ == '__main__':
    main()
