"""What a config asks for is built, or refused in one line."""

import functools
import logging
import os.path as osp
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

from mmengine.logging import MMLogger
from mmengine.registry import build_from_cfg

from ppcd_mmagic.errors import PPCDError

_PACKAGE = osp.dirname(osp.abspath(__file__))


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what the parts of others say of a config into one line.

    What goes wrong in this package's own lines is a fault of the program,
    which keeps its traceback. That of others' lines goes to the log file of
    the run: who writes a generator needs it.

    Args:
        what (str): What is built or begun, for the message: 'the generator'.

    Raises:
        PPCDError: If a part refuses what the config says of it, or there is
            no such part.
    """
    try:
        yield
    except (PPCDError, MemoryError):
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        last = osp.abspath(frames[-1].f_code.co_filename)
        if last.startswith(_PACKAGE + osp.sep):
            raise
        parts = [
            frame.f_locals.get('obj_type')
            for frame in frames
            if frame.f_code is build_from_cfg.__code__
        ]
        part = next((f' ({name})' for name in reversed(parts) if name), '')
        line = traceback.extract_tb(error.__traceback__)[-1]
        logs = _keep_traceback(error)
        raise PPCDError(
            f'{what}{part} fails with the settings of this config: '
            f'{type(error).__name__}: {error} ({osp.basename(line.filename)}, '
            f'line {line.lineno}'
            + ''.join(f'; in full in {log}' for log in logs)
            + ')'
        ) from error


def _keep_traceback(error: Exception) -> List[str]:
    """Write it into the log files of the run that is under way, if any, and
    say which these are."""
    logger = MMLogger.get_current_instance()
    files = [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    ]
    text = ''.join(
        traceback.format_exception(type(error), error, error.__traceback__)
    )
    for file in files:
        file.handle(
            logger.makeRecord(logger.name, logging.ERROR, '', 0, text, (), None)
        )
    return [file.baseFilename for file in files]


def built_or_refused(what: str) -> Callable[[Callable], Callable]:
    """:func:`building` as a decorator."""

    def decorate(build: Callable) -> Callable:

        @functools.wraps(build)
        def call(*args: Any, **kwargs: Any) -> Any:
            with building(what):
                return build(*args, **kwargs)

        return call

    return decorate
