"""Train a model from its config."""
import argparse

from command_line import (add_run_arguments, build_runner, read_config,
                          run)
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from ppcd_mmagic.compat import join_ranks_without_gpu
from ppcd_mmagic.engine import enable_amp, find_problems
from ppcd_mmagic.errors import PPCDError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='path of the training config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from the given checkpoint, or without one from the '
        'latest in the work directory, if there is one')
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (GPU)')
    add_run_arguments(parser)
    return parser.parse_args()


def load_config(args: argparse.Namespace) -> Config:
    config = read_config(args)
    if args.amp:
        enable_amp(config)
    resumed = args.resume
    if resumed == 'auto':
        # with nothing written yet it begins, from `load_from` where that is set
        resumed = find_latest_checkpoint(config.work_dir)
    if resumed:
        config.resume = True
        config.load_from = resumed
    return config


def main() -> None:
    args = parse_args()
    config = load_config(args)
    problems = find_problems(config)
    if problems:
        raise PPCDError(*problems)
    join_ranks_without_gpu(config)
    build_runner(config).train()
    print(f'logs and checkpoints are in {config.work_dir}')


if __name__ == '__main__':
    run(main)
