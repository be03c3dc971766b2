"""What the command lines have in common."""
import argparse
import os
import os.path as osp
import sys
from typing import Callable, NoReturn

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ppcd_mmagic.engine import SafeRunner
from ppcd_mmagic.errors import PPCDError


def run(main: Callable[[], None]) -> NoReturn:
    """The entry of every tool: a user's mistake is one line and exit code 2,
    a fault of the program keeps its traceback."""
    try:
        main()
    except PPCDError as error:
        for problem in error.args:
            line = ' '.join(str(problem).split())
            print(f'error: {line}', file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of OpenMMLab's tools that run something from a config."""
    parser.add_argument(
        '--work-dir',
        help='where logs and results go (default: work_dirs/<config>)')
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


def read_config(args: argparse.Namespace) -> Config:
    """The config of the command line, with those options in it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    name = osp.splitext(osp.basename(args.config))[0]
    config.work_dir = args.work_dir or config.get('work_dir') or osp.join(
        'work_dirs', name)
    return config


def is_first_process() -> bool:
    """Whether this is the only process of a training or the first of them,
    before they have joined."""
    names = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
    return not any(int(os.environ.get(name, 0)) for name in names)


def build_runner(config: Config) -> Runner:
    """The runner of a config.

    Raises:
        PPCDError: If a part refuses what the config says of it.
    """
    try:
        return SafeRunner.from_cfg(config)
    except ValueError as error:
        raise PPCDError(str(error)) from error
