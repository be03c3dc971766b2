"""Table A: class-aware against class-irrelevant distillation."""
import argparse
import os.path as osp

from experiments import (add_arguments, bar_chart, labels_for, make_runs,
                         run_all, save_table)
from mmengine.config import Config

import ppcd_mmagic  # noqa: F401, registers the parts

CONFIGS = osp.join(osp.dirname(__file__), '..', 'configs')
LINES = {
    'PPCD-GAN (complete)': '{data}_alpha05.py',
    'PPCD-GAN w/o L_PP': '{data}_dense.py',
    'PPCD-GAN- (class-irrelevant)': '{data}_irrelevant_alpha05.py',
    'PPCD-GAN- w/o L_PP': '{data}_irrelevant_dense.py',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train, or read where they have been trained, the four '
        'models of Table A at alpha 0.5; print and draw the table.')
    parser.add_argument(
        '--data',
        default='ppcd_digits_16',
        choices=['ppcd_digits_16', 'ppcd_biggan_128'],
        help='digits, or ImageNet where you have it (default: %(default)s)')
    add_arguments(parser, 'work_dirs/table_a')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    args.root = osp.join(args.root, args.data)
    lines = {
        name: Config.fromfile(osp.join(CONFIGS, file.format(data=args.data)))
        for name, file in LINES.items()
    }
    results = run_all(make_runs(lines, args), args.jobs)
    save_table(
        results, args.root, 'Table A, alpha 0.5',
        f'Mean and standard deviation over {len(args.seeds)} seeds. '
        'Class leakage is 1 - accuracy.')
    bar_chart(results, labels_for(results), osp.join(args.root, 'table.png'))


if __name__ == '__main__':
    main()
