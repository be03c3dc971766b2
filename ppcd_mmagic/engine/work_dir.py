"""One work directory, one training."""

import os
import os.path as osp
import re
import shutil
import socket
from contextlib import contextmanager, suppress
from typing import Any, Iterator, List

from mmengine.config import Config
from mmengine.hooks import Hook

from ppcd_mmagic.errors import PPCDError
from .settings import walk

_CHECKPOINT = re.compile(r'((iter|epoch)_\d+|best_.*)\.pth|last_checkpoint')
_LOGS = re.compile(r'\d{8}_\d{6}')


@contextmanager
def locked(work_dir: str) -> Iterator[None]:
    """Keep other trainings out of a work directory; made if not there.

    The lock is the process's: it ends with it, however that ends.

    Raises:
        PPCDError: If another process trains there, or it cannot be written.
    """
    path = osp.join(work_dir, '.lock')
    try:
        os.makedirs(work_dir, exist_ok=True)
        file = open(path, 'a+')
    except OSError as error:
        raise PPCDError(
            f'The work directory {work_dir} cannot be written: '
            f'{error.strerror}. Name another --work-dir.'
        ) from error
    with file:
        _lock(file, work_dir)
        file.seek(0)
        file.truncate()
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        yield


def _lock(file: Any, work_dir: str) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        # unlike flock's, not inherited by the workers that load data, which
        # outlive a killed training for some seconds
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        raise PPCDError(
            f'Another training runs in {work_dir} ({file.read()}): wait for '
            'it, or name another --work-dir.'
        ) from None


def refuse_used(work_dir: str) -> None:
    """For a training that is neither resumed nor allowed to overwrite.

    Raises:
        PPCDError: If the directory holds checkpoints.
    """
    found = _matching(work_dir, _CHECKPOINT)
    if found:
        raise PPCDError(
            f'{work_dir} holds a training ({", ".join(found[:3])}'
            f'{", ..." if len(found) > 3 else ""}): continue it with --resume, '
            'begin again with --overwrite, or name another --work-dir.'
        )


class FormerTraining(Hook):
    """Deletes the checkpoints and logs that a work directory holds, when
    another training there has done its first iteration: what fails before
    that must not cost anything.

    Args:
        config (Config): Of the other training, before it has begun.

    Raises:
        PPCDError: If it needs a checkpoint that would be deleted.
    """

    priority = 'HIGHEST'  # before anything is saved

    def __init__(self, config: Config) -> None:
        work_dir = config.work_dir
        self._files = [
            osp.join(work_dir, name)
            for name in _matching(work_dir, _CHECKPOINT)
        ]
        self._logs = [
            osp.join(work_dir, name) for name in _matching(work_dir, _LOGS)
        ]
        deleted = set(map(osp.realpath, self._files))
        for place, value in walk(config.to_dict()):
            if isinstance(value, str) and osp.realpath(value) in deleted:
                raise PPCDError(
                    f'--overwrite would delete {value}, which {place} names: '
                    'name another --work-dir, or move it away.'
                )

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        # what somebody else has deleted meanwhile must not end this one
        for path in self._files:
            with suppress(FileNotFoundError):
                os.remove(path)
        for path in self._logs:
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
        self._files, self._logs = [], []


def _matching(work_dir: str, pattern: re.Pattern) -> List[str]:
    if not osp.isdir(work_dir):
        return []
    return sorted(filter(pattern.fullmatch, os.listdir(work_dir)))
