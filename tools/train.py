"""Train a model from its config."""

import argparse
import contextlib

from command_line import (
    add_run_arguments,
    build_runner,
    is_first_process,
    read_config,
    run,
)
from mmengine.config import Config

from ppcd_mmagic.checkpoints import newest_checkpoint
from ppcd_mmagic.compat import join_ranks_without_gpu, part_ranks
from ppcd_mmagic.engine import (
    FormerTraining,
    config_problems,
    enable_amp,
    find_problems,
    locked,
    refuse_used,
)
from ppcd_mmagic.errors import PPCDError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='path of the training config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or without one from the newest '
        'whole one in the work directory; where there is none, begin',
    )
    parser.add_argument(
        '--allow-changes',
        action='store_true',
        help='resume although model, data or pruning differ from the '
        "checkpoint's",
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete the training in the work directory and begin again',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (GPU)'
    )
    add_run_arguments(parser)
    args = parser.parse_args()
    if args.resume and args.overwrite:
        parser.error('--resume continues what --overwrite would delete')
    return args


def load_config(args: argparse.Namespace) -> Config:
    config = read_config(args)
    if args.amp:
        enable_amp(config)
    config.allow_changes = args.allow_changes
    resumed = args.resume
    if args.overwrite:
        config.resume = False  # it may be the config of a resumed training
    if resumed == 'auto':
        # with nothing written yet it begins, from `load_from` where that is set
        resumed = newest_checkpoint(config.work_dir)
    if resumed:
        config.resume = True
        config.load_from = resumed
    return config


def main() -> None:
    args = parse_args()
    config = load_config(args)
    first = is_first_process()
    problems = config_problems(config) or first and find_problems(config)
    if problems:
        raise PPCDError(*problems)
    join_ranks_without_gpu(config)
    with locked(config.work_dir) if first else contextlib.nullcontext():
        if not args.overwrite and not args.resume:
            refuse_used(config.work_dir)
        former = args.overwrite and first and FormerTraining(config)
        runner = build_runner(config)
        if former:
            runner.register_hook(former)
        runner.train()
        part_ranks()
    print(f'logs and checkpoints are in {config.work_dir}')


if __name__ == '__main__':
    run(main)
