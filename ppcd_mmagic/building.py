"""What a config asks for is built, or refused in one line."""
import functools
import os.path as osp
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from mmengine.registry import build_from_cfg

from ppcd_mmagic.errors import PPCDError

_PACKAGE = osp.dirname(osp.abspath(__file__))


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what the parts of others say of a config into one line.

    What goes wrong in this package's own lines is a fault of the program,
    which keeps its traceback.

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
        parts = [frame.f_locals.get('obj_type') for frame in frames
                 if frame.f_code is build_from_cfg.__code__]
        part = next((f' ({name})' for name in reversed(parts) if name), '')
        raise PPCDError(
            f'{what}{part} fails with the settings of this config: '
            f'{type(error).__name__}: {error}') from error


def built_or_refused(what: str) -> Callable[[Callable], Callable]:
    """:func:`building` as a decorator."""

    def decorate(build: Callable) -> Callable:

        @functools.wraps(build)
        def call(*args: Any, **kwargs: Any) -> Any:
            with building(what):
                return build(*args, **kwargs)

        return call

    return decorate
