"""Files that are there whole, or not at all."""

import hashlib
import json
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
                'folder.'
            ) from error
        raise


SUMMARY = 'summary.json'


def sha256_of(path: str) -> str:
    """Of a file, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for chunk in iter(lambda: file.read(2**20), b''):
            digest.update(chunk)
    return digest.hexdigest()


def refuse_changed(path: str) -> None:
    """For a file of an export, whose summary says what it was.

    Raises:
        PPCDError: If the summary beside it has another hash.
    """
    try:
        with open(osp.join(osp.dirname(path), SUMMARY)) as file:
            hashes = json.load(file)['sha256']
        written = hashes[osp.basename(path)]
    except (OSError, ValueError, KeyError, TypeError):
        return  # of no export, or of an older version's
    if sha256_of(path) != written:
        raise PPCDError(
            f'{path} is not the file that was exported here (its hash differs '
            f'from that in {SUMMARY}): export or copy it again, or delete '
            f'{SUMMARY} if you changed it on purpose.'
        )


def make_folder(path: str) -> None:
    """Have a folder that results can be written to, before they are made.

    Args:
        path (str): It is there already, or is made; '' is the current one.

    Raises:
        PPCDError: If it cannot be made, or nothing can be written to it.
    """
    path = path or os.curdir
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise PPCDError(
            f'The folder {path} cannot be made: {error.strerror}. Name '
            'another one.'
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise PPCDError(
            f'The folder {path} is read-only: name another one for the results.'
        )


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
                'is possible, and name the file.'
            ) from error
    return copy
