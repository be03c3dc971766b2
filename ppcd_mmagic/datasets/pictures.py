"""Files that are pictures, whether they are whole, and which they were."""

import hashlib
import json
import os
import os.path as osp
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, List, Optional

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

ENDINGS = (
    '.jpg',
    '.jpeg',
    '.png',
    '.ppm',
    '.bmp',
    '.pgm',
    '.tif',
    '.tiff',
    '.webp',
)
"""What files must end in to be taken for pictures, by the check before a
training and by the data."""
_RECORD = '.ppcd_mmagic_pictures.json'


def fault_of(path: str) -> Optional[str]:
    """What is wrong with a picture, as far as its head and its end tell.

    Decoders fill what is missing at the end of a JPEG with grey.

    Args:
        path (str): The file.

    Returns:
        str | None: Such as 'empty' or 'truncated'; None if nothing is.

    Example:
        >>> from PIL import Image
        >>> Image.new('RGB', (8, 8)).save('black.png')
        >>> print(fault_of('black.png'))
        None
        >>> _ = open('empty.jpg', 'w')
        >>> fault_of('empty.jpg')
        'empty'
    """
    try:
        with open(path, 'rb') as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return 'empty'
            file.seek(max(0, size - 4096))
            end = file.read()
            file.seek(0)
            with Image.open(file) as picture:
                kind = picture.format
    except UnidentifiedImageError:
        return 'no picture'
    except (OSError, ValueError, SyntaxError) as error:  # PIL has all three
        return f'unreadable ({error})'
    last = dict(JPEG=b'\xff\xd9', PNG=b'IEND').get(str(kind))
    return 'truncated' if last and last not in end else None


def undecodable(path: str) -> Optional[str]:
    """As :func:`fault_of`, but all of the picture is decoded, by OpenCV too,
    which pipelines load with."""
    fault = fault_of(path)
    if fault:
        return fault
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError) as error:
        return f'unreadable ({error})'
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    return 'of a kind that OpenCV cannot read' if decoded is None else None


def faults_in(folder: str, files: Iterable[str]) -> Dict[str, str]:
    """Look at the head and the end of every picture, once.

    What is found is kept in the folder, if that can be written, and holds as
    long as files and sizes stay the same. A bar shows how far it is.

    Args:
        folder (str): Where the pictures are.
        files (Iterable[str]): Their paths in it.

    Returns:
        dict: Faults by path, see :func:`fault_of`.

    Example:
        >>> os.makedirs('cats')
        >>> _ = open('cats/empty.jpg', 'w')
        >>> faults_in('.', ['cats/empty.jpg'])
        {'cats/empty.jpg': 'empty'}
    """
    files = sorted(files)
    mark = fingerprint(folder, files)
    record = osp.join(folder, _RECORD)
    try:
        with open(record) as file:
            known = json.load(file)
        if known['fingerprint'] == mark:
            return dict(known['faults'])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # looked at for the first time, or the record is spoilt
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda name: fault_of(osp.join(folder, name)), files)
        bar = tqdm(
            found,
            total=len(files),
            desc='looking at the pictures',
            unit='file',
            disable=len(files) < 1000,
        )
        faults = {name: fault for name, fault in zip(files, bar) if fault}
    keep(record, dict(fingerprint=mark, faults=faults))
    return faults


def keep(path: str, content: dict) -> None:
    """Write JSON beside the data, where that may be written."""
    partial = f'{path}.{os.getpid()}'
    try:
        with open(partial, 'w') as file:
            json.dump(content, file)
        os.replace(partial, path)
    except OSError:
        pass  # a read-only disk: looked at again next time


def fingerprint(folder: str, files: Iterable[str]) -> str:
    """One for files and sizes, of 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in files:
        path = osp.join(folder, name)
        size = osp.getsize(path) if osp.exists(path) else 'a link to nothing'
        digest.update(f'{name}\0{size}\0'.encode('utf-8', 'surrogateescape'))
    return digest.hexdigest()


def pictures_in(folder: str, endings: Iterable[str] = ENDINGS) -> List[str]:
    """Paths in a folder, at any depth, of what is named like a picture."""
    endings = tuple(endings)
    return sorted(
        osp.relpath(osp.join(root, name), folder)
        for root, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(endings)
    )
