"""Draw pictures of chosen classes into a folder."""

import argparse
from functools import cache, partial

import torch
from command_line import positive, read_config_file, run, seed

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.datasets import class_names
from ppcd_mmagic.sampling import ClassSampler, choose_classes, write_pictures


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Draw pictures of chosen classes into a folder.',
        epilog='example: python tools/sample.py config.py generator.pth '
        '--classes 207 "sea lion" --class-names imagenet --number 12 '
        '--out-dir dogs',
    )
    parser.add_argument('config', help='config of a checkpoint or an export')
    parser.add_argument(
        'weights',
        help='its checkpoint, or generator.pth, .safetensors or .onnx',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        required=True,
        help='indices or names of the classes, or "all"; a number is an index',
    )
    parser.add_argument(
        '--number',
        type=int,
        default=12,
        help='pictures of each class (default: %(default)s)',
    )
    parser.add_argument(
        '--out-dir', required=True, help='folder for them, new or empty'
    )
    parser.add_argument(
        '--class-names',
        help='text file with a name in each line, or "imagenet" (default: '
        'those of the data set of the config)',
    )
    parser.add_argument(
        '--seed',
        type=seed,
        default=0,
        help='the same seed draws the same pictures (default: %(default)s)',
    )
    parser.add_argument(
        '--truncation',
        type=float,
        help='largest absolute value of the noise; smaller gives better '
        'pictures of less variety (default: none)',
    )
    parser.add_argument(
        '--standing-statistics',
        type=positive,
        metavar='BATCHES',
        help='let the norms count anew over so many batches of 64 before '
        'drawing, for use with truncation (default: keep those of the '
        'training)',
    )
    parser.add_argument(
        '--grid',
        action='store_true',
        help='write grid.png as well, a row for each class',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=16,
        help='pictures at once (default: %(default)s)',
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where to draw (default here: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    sampler = ClassSampler(
        read_config_file(args.config), args.weights, args.device
    )
    names = cache(partial(class_names, sampler.config, args.class_names))
    if args.class_names:
        names()  # a file that is not there is an error, needed or not
    classes = choose_classes(args.classes, sampler.num_classes, names)
    paths = write_pictures(
        sampler,
        classes,
        args.out_dir,
        args.number,
        args.seed,
        args.truncation,
        args.standing_statistics,
        args.batch_size,
        args.grid,
    )
    print(f'{len(paths)} pictures are in {args.out_dir}')


if __name__ == '__main__':
    run(main)
