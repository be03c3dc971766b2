"""Train a model from its config."""
import argparse
import os
import os.path as osp
import sys

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ppcd_mmagic.compat import join_ranks_without_gpu
from ppcd_mmagic.engine import enable_amp, find_problems


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='path of the training config')
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go (default: work_dirs/<config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from the given checkpoint, or without one from the '
        'latest in the work directory')
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (GPU)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher (default: none)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    if args.work_dir:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        config.work_dir = osp.join('work_dirs', name)
    if args.amp:
        enable_amp(config)
    if args.resume:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    return config


def main() -> None:
    args = parse_args()
    try:
        config = load_config(args)
        problems = find_problems(config)
        if problems:
            sys.exit('\n'.join(f'error: {problem}' for problem in problems))
        join_ranks_without_gpu(config)
        runner = Runner.from_cfg(config)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'error: {error}')
    runner.train()
    print(f'logs and checkpoints are in {config.work_dir}')


if __name__ == '__main__':
    main()
