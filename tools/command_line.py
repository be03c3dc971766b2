"""What the command lines have in common."""

import argparse
import errno
import logging
import os
import os.path as osp
import signal
import sys
from contextlib import contextmanager
from typing import Any, Callable, Iterator, NoReturn, Optional

from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import distributed

from ppcd_mmagic.building import building
from ppcd_mmagic.engine import SafeRunner, lost_processes_named, merge_options
from ppcd_mmagic.engine.hooks import SIGNALS
from ppcd_mmagic.errors import PPCDError

# what a machine refuses, whatever the program
_REFUSALS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


@contextmanager
def _signals_like_ctrl_c() -> Iterator[None]:
    """What else asks for an end lets the tool clear up what it has begun, too;
    the same signal again ends it at once. Trainings note all of them."""
    process = os.getpid()

    def interrupt(number: int, frame: Any) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # one that loads data has nothing to clear
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt(number)

    before = {
        number: signal.signal(number, interrupt)
        for number in set(SIGNALS) - {signal.SIGINT}
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(code: int) -> NoReturn:
    """As ``sys.exit``. Where this process is still joined with others, of which
    one may be gone, nothing is taken apart: that aborts it now and then, with
    an exit code of its own."""
    if distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(main: Callable[[], None]) -> NoReturn:
    """The entry of every tool: a user's mistake, or what the machine refuses,
    is one line and exit code 2; a fault of the program keeps its traceback."""
    logging.raiseExceptions = False  # a full disk is said once
    try:
        with _signals_like_ctrl_c(), lost_processes_named():
            main()
    except KeyboardInterrupt as asked:
        number = signal.Signals(*asked.args or (signal.SIGINT,))
        print(f'stopped by {number.name}', file=sys.stderr)
        _leave(128 + number)
    except PPCDError as error:
        for problem in error.args:
            # what loads data in another process wraps its traceback around
            line = ' '.join(str(problem).rpartition('PPCDError: ')[2].split())
            print(f'error: {line}', file=sys.stderr)
        _leave(2)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        print(
            f'error: {error.filename or "a file"} cannot be read or '
            f'written: {error.strerror}. Make room, or name another place.',
            file=sys.stderr,
        )
        _leave(2)
    sys.exit(0)


class Settings(DictAction):
    """MMEngine's key=value on the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Optional[str] = None,
    ) -> None:
        for text in values:
            if '=' not in text:
                parser.error(
                    f'argument {option_string}: "{text}" is no key=value'
                )
        super().__call__(parser, namespace, values, option_string)


def positive(text: str) -> int:
    """Type of a command line's count."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f'"{text}" is no whole number of at least 1'
        )
    return int(text)


def natural(text: str) -> int:
    """Type of a command line's index."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f'"{text}" is no whole number of at least 0'
        )
    return int(text)


def seed(text: str) -> int:
    """Type of a command line's seed."""
    number = natural(text)
    if number >= 2**32:  # what NumPy's generators take
        raise argparse.ArgumentTypeError(f'"{text}" is not below {2**32}')
    return number


def fraction(text: str) -> float:
    """Type of a command line's alpha."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no number in [0, 1)')
    return value


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of OpenMMLab's tools that run something from a config."""
    parser.add_argument(
        '--work-dir',
        help='where logs and results go (default: work_dirs/<config>)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        help='override settings of the config, as key=value',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher (default: none)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=natural, default=0)


def read_config_file(path: str, options: Optional[dict] = None) -> Config:
    """A config, with what the command line overrides in it.

    Raises:
        PPCDError: If it is not there, is no config, or has no place for an
            option.
    """
    if not osp.isfile(path):
        what = 'is a folder' if osp.isdir(path) else 'does not exist'
        raise PPCDError(
            f'The config {path} {what} (looked for {osp.abspath(path)}).'
        )
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program of the user's
        raise PPCDError(
            f'The config {path} cannot be read: {type(error).__name__}: {error}'
        ) from error
    merge_options(config, options or {}, path)
    return config


def read_config(args: argparse.Namespace) -> Config:
    """The config of the command line, with those options in it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = read_config_file(args.config, args.cfg_options)
    config.launcher = args.launcher
    name = osp.splitext(osp.basename(args.config))[0]
    config.work_dir = (
        args.work_dir or config.get('work_dir') or osp.join('work_dirs', name)
    )
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
    with building('the runner'):
        return SafeRunner.from_cfg(config)


def parse_experiment(
    parser: argparse.ArgumentParser, name: str
) -> argparse.Namespace:
    """The command line of an experiment, with the options that all share.

    Args:
        parser (argparse.ArgumentParser): Has those of its own.
        name (str): Of the experiment: runs of each data set go to a folder
            of their own.
    """
    from ppcd_mmagic.experiments import STUDENTS  # it brings matplotlib along

    parser.add_argument(
        '--data',
        default='digits_16',
        choices=list(STUDENTS),
        help='digits, or what you have of CIFAR-10 (in the folder CIFAR10) and '
        'ImageNet (default: %(default)s)',
    )
    parser.add_argument(
        '--seeds',
        type=seed,
        nargs='+',
        default=[0, 1, 2],
        help='seeds of the trainings (default: %(default)s)',
    )
    parser.add_argument(
        '--max-iters',
        type=positive,
        help="train for so many iterations instead of the config's",
    )
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='trainings at a time; they share the cores (default: 1)',
    )
    parser.add_argument(
        '--root',
        help=f'where runs and results go (default: work_dirs/{name}_<data>)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        default={},
        help='override settings of every config, as key=value; name another '
        '--root for it',
    )
    args = parser.parse_args()
    args.root = args.root or osp.join('work_dirs', f'{name}_{args.data}')
    return args
