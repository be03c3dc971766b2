"""Files that are there whole, or not at all."""
import hashlib
import os
import os.path as osp
from contextlib import contextmanager
from typing import Iterator

import torch

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


def local_file(path: str) -> str:
    """The path itself, or that of the copy of a file in the net.

    What begins with ``http://`` or ``https://`` is downloaded, with a bar,
    into the folder of ``torch.hub`` (``$TORCH_HOME``), where it is found the
    next time.

    Args:
        path (str): A path or an address.

    Raises:
        PPCDError: If it cannot be downloaded.
    """
    if not path.startswith(('http://', 'https://')):
        return path
    address = hashlib.sha256(path.encode()).hexdigest()[:8]
    folder = osp.join(torch.hub.get_dir(), 'checkpoints')
    copy = osp.join(folder, f'{address}-{osp.basename(path)}')
    if not osp.isfile(copy):
        os.makedirs(folder, exist_ok=True)
        try:
            torch.hub.download_url_to_file(path, copy)
        except OSError as error:
            raise PPCDError(
                f'{path} cannot be downloaded ({error}): fetch it where that '
                'is possible, and name the file.') from error
    return copy
