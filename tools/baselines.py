"""The baselines of the paper on the digits, beside PPCD-GAN."""
import argparse
import os.path as osp

from experiments import (add_arguments, bar_chart, labels_for, make_runs,
                         run_all, save_table, shorten)
from mmengine.config import Config

import ppcd_mmagic  # noqa: F401, registers the parts

CONFIGS = osp.join(osp.dirname(__file__), '..', 'configs')
LINES = {
    'PPCD-GAN': 'ppcd_digits_16_alpha06.py',
    'Big-GAN': 'biggan_digits_16.py',
    'SA-GAN': 'sagan_digits_16.py',
    'SN-GAN': 'sngan_digits_16.py',
    'Tiny-GAN': 'tinygan_digits_16.py',
    'Distill only': 'distill_only_digits_16.py',
    'GAN Compression': 'gan_compression_digits_16.py',
}
BEFORE_PRUNING = 'PPCD-GAN before pruning'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train the baselines and PPCD-GAN; print and draw the '
        'table. PPCD-GAN* is pruned after training and fine-tuned for half as '
        'long again; all others train equally long.')
    add_arguments(parser, 'work_dirs/baselines')
    parser.set_defaults(seeds=[0])
    return parser.parse_args()


def load(name: str) -> Config:
    return Config.fromfile(osp.join(CONFIGS, name))


def equally_long(lines: dict, max_iters: int) -> dict:
    length = max_iters or lines['PPCD-GAN'].train_cfg.max_iters
    return {name: shorten(config, length) for name, config in lines.items()}


def main() -> None:
    args = parse_args()
    lines = equally_long({k: load(v) for k, v in LINES.items()},
                         args.max_iters)
    length = lines['PPCD-GAN'].train_cfg.max_iters
    args.max_iters = None
    before = make_runs({
        BEFORE_PRUNING:
        shorten(load('ppcd_digits_16_alpha00.py'), length)
    }, args)
    results = run_all(make_runs(lines, args) + before, args.jobs)
    star = shorten(load('ppcd_star_digits_16_alpha06.py'), length // 2)
    runs = []
    for run in before:
        with open(osp.join(run.work_dir, 'last_checkpoint')) as file:
            star.load_from = file.read().strip()
        runs += make_runs({'PPCD-GAN*': star},
                          argparse.Namespace(
                              seeds=[run.seed], max_iters=None,
                              root=args.root))
    results.update(run_all(runs, args.jobs))
    save_table(
        results, args.root, 'Baselines on the digits',
        f'{len(args.seeds)} seed(s), {length} iterations each; PPCD-GAN* '
        f'has {length // 2} more of fine-tuning.')
    bar_chart(results, labels_for(results), osp.join(args.root, 'table.png'))


if __name__ == '__main__':
    main()
