"""Files that are there whole, or not at all."""
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator

from ppcd_mmagic.errors import PPCDError


@contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Write a file that appears under its name when it is complete.

    Inside, write to the path that is given: a hidden neighbour, which takes
    the place of ``path`` at the end, and is deleted if that fails.

    Args:
        path (str): The file that is to be there.

    Raises:
        PPCDError: If the disk is full or the folder cannot be written.
    """
    partial = partial_of(path)
    try:
        yield partial
        with open(partial, 'rb+') as file:
            os.fsync(file.fileno())  # the content first, then its name
        os.replace(partial, path)
    except BaseException as error:
        if osp.exists(partial):
            os.remove(partial)
        if isinstance(error, OSError):
            raise PPCDError(
                f'{path} could not be written: {error.strerror}. What was '
                'there before is untouched; make room or name another '
                'folder.') from error
        raise


def partial_of(path: str) -> str:
    """Where :func:`written_whole` writes."""
    folder, name = osp.split(path)
    return osp.join(folder, f'.{name}.partial')
