"""Write what configs/foreign/*_photographs*.py are trained and tested on."""

import argparse
import os.path as osp
from typing import Iterator

import cv2
import numpy as np
from PIL import Image

import ppcd_mmagic  # noqa: F401, makes MMagic importable everywhere

# isort: split
from command_line import run
from mmagic.datasets.transforms import MATLABLikeResize

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import make_folder

# photographs that come with scikit-image; no part of one is in both
TRAIN = (
    'astronaut.png',
    'motorcycle_left.png',
    'rocket.jpg',
    'retina.jpg',
    'hubble_deep_field.jpg',
    'ihc.png',
    'brick.png',
    'grass.png',
    'gravel.png',
    'coins.png',
    'moon.png',
)
TEST = ('chelsea.png', 'coffee.png', 'camera.png')
LONGEST, TILE = 640, 128
# a U-Net of six halvings takes multiples of it
STEP = 64


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write photographs of scikit-image for the configs of '
        'configs/foreign that are named after them: gt/ and, at half the '
        'size (bicubic), lq/ for super-resolution; pairs/ of a photograph '
        'and the same in 8 colours (Floyd-Steinberg) for translation. 11 '
        'are for training, in tiles, 3 others for testing, whole.'
    )
    parser.add_argument(
        '--out',
        default='data/photographs',
        help='folder to write to (default: %(default)s)',
    )
    return parser.parse_args()


def read(name: str) -> np.ndarray:
    """A photograph (h, w, 3), BGR, at most 640 px long."""
    try:
        from skimage.data import data_dir
    except ImportError as error:
        raise PPCDError(
            'The photographs are those of scikit-image: pip '
            'install scikit-image.'
        ) from error
    photo = cv2.imread(osp.join(data_dir, name))
    if photo is None:
        raise PPCDError(
            f'There is no {name} in {data_dir}: another release '
            'of scikit-image is needed, such as 0.26.'
        )
    scale = LONGEST / max(photo.shape)
    if scale < 1:
        photo = cv2.resize(
            photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
    return photo


def tiles(photo: np.ndarray) -> Iterator[np.ndarray]:
    """Squares of 128 px, what is left at the borders dropped."""
    height, width = photo.shape[:2]
    for top in range(0, height - TILE + 1, TILE):
        for left in range(0, width - TILE + 1, TILE):
            yield photo[top : top + TILE, left : left + TILE]


def whole(photo: np.ndarray) -> Iterator[np.ndarray]:
    """The middle of it, as large as multiples of 64 px allow."""
    height, width = (size // STEP * STEP for size in photo.shape[:2])
    top, left = (
        (full - size) // 2
        for full, size in zip(photo.shape[:2], (height, width))
    )
    yield photo[top : top + height, left : left + width]


def in_eight_colours(photo: np.ndarray) -> np.ndarray:
    """Each channel black or white, by error diffusion."""
    return np.dstack(
        [
            np.asarray(Image.fromarray(channel).convert('1'), np.uint8) * 255
            for channel in np.moveaxis(photo, -1, 0)
        ]
    )


def write(folder: str, name: str, picture: np.ndarray) -> None:
    make_folder(folder)
    if not cv2.imwrite(osp.join(folder, name), picture):
        raise PPCDError(f'{folder} cannot be written to: name another --out.')


def main() -> None:
    out = parse_args().out
    half = MATLABLikeResize(keys=['photo'], scale=0.5)
    for split, names, cut in (('train', TRAIN, tiles), ('test', TEST, whole)):
        number = 0
        for name in names:
            for index, photo in enumerate(cut(read(name))):
                file = f'{osp.splitext(name)[0]}_{index:02d}.png'
                write(osp.join(out, split, 'gt'), file, photo)
                small = half(dict(photo=photo))['photo']
                write(
                    osp.join(out, split, 'lq'),
                    file,
                    small.clip(0, 255).round().astype(np.uint8),
                )
                write(
                    osp.join(out, 'pairs', split),
                    file,
                    np.hstack([photo, in_eight_colours(photo)]),
                )
                number += 1
        print(f'{split}: {number} pictures of {len(names)} photographs')
    print(f'written to {out}')


if __name__ == '__main__':
    run(main)
