"""Pictures between classes and between noises (figures F and G)."""

import argparse
import os.path as osp

import imageio.v3 as imageio
import torch
from command_line import natural, positive, read_config_file, run, seed
from mmengine.registry import init_default_scope
from torch import Tensor
from torchvision.utils import make_grid, save_image

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.generators import draw_noise
from ppcd_mmagic.visualization import interpolate_classes, interpolate_noises


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Interpolate between classes with the noise fixed, and '
        'between noises with the class fixed; write PNG and GIF.'
    )
    parser.add_argument('config', help='config of a checkpoint or an export')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--classes',
        type=natural,
        nargs='+',
        help='classes to walk through (default: the first six)',
    )
    parser.add_argument(
        '--steps',
        type=positive,
        default=9,
        help='pictures from one end to the other in the PNG (default: 9)',
    )
    parser.add_argument(
        '--frames',
        type=positive,
        default=24,
        help='frames from one end to the other in the GIF (default: 24)',
    )
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument(
        '--out-dir',
        default='work_dirs/interpolation',
        help='default: %(default)s',
    )
    return parser.parse_args()


def walks(generator, classes: list, steps: int, seed: int) -> dict:
    """Rows of both figures, each (steps, 3, h, w)."""
    noise = draw_noise(2 * len(classes), generator.noise_size, seed).unflatten(
        0, (-1, 2)
    )
    following = classes[1:] + classes[:1]
    return dict(
        classes=[
            interpolate_classes(generator, noise[0, 0], a, b, steps)
            for a, b in zip(classes, following)
        ],
        noises=[
            interpolate_noises(generator, *noise[row], label, steps)
            for row, label in enumerate(classes)
        ],
    )


def to_unit(images: Tensor) -> Tensor:
    """MMagic's images to RGB in [0, 1], small ones enlarged to be seen."""
    images = images.flip(1).add(1).div(2).clamp(0, 1)
    factor = max(1, 64 // images.shape[-1])
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def main() -> None:
    args = parse_args()
    init_default_scope('ppcd_mmagic')
    generator = build_trained_generator(
        read_config_file(args.config), args.checkpoint, 'given'
    )
    classes = args.classes or list(range(min(6, generator.num_classes)))
    if not 0 <= min(classes) <= max(classes) < generator.num_classes:
        raise PPCDError(
            f'--classes {classes} must be within 0 and '
            f'{generator.num_classes - 1}, the classes of the generator.'
        )
    make_folder(args.out_dir)
    pictures = walks(generator, classes, args.steps, args.seed)
    films = walks(generator, classes, args.frames, args.seed)
    for name, rows in pictures.items():
        path = osp.join(args.out_dir, f'{name}.png')
        with written_whole(path) as partial:
            save_image(
                to_unit(torch.cat(rows)), partial, nrow=args.steps, format='png'
            )
        print(f'drawn to {path}')
    for name, rows in films.items():
        there = torch.stack([to_unit(row) for row in rows], 1)
        frames = [
            make_grid(frame, nrow=len(rows))
            .mul(255)
            .byte()
            .permute(1, 2, 0)
            .numpy()
            for frame in [*there, *there.flip(0)]
        ]
        path = osp.join(args.out_dir, f'{name}.gif')
        with written_whole(path) as partial:
            imageio.imwrite(
                partial, frames, extension='.gif', duration=80, loop=0
            )
        print(f'drawn to {path}')


if __name__ == '__main__':
    run(main)
