"""Export a trained student: discard masks and dead channels."""

import argparse
import os.path as osp

from command_line import Settings, fraction, positive, read_config_file, run
from mmengine.registry import init_default_scope

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.evaluation import build_classifier
from ppcd_mmagic.export import (
    FORMATS,
    PRECISIONS,
    Precision,
    check_formats,
    export_student,
    judge_of,
    save_export,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Export a trained student as an ordinary, smaller '
        'generator of MMagic: config.py, summary.json and the generator. '
        'Refuses if any image differs by more than 1e-5.'
    )
    parser.add_argument('config', help='config the student was trained with')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--out-dir', help='default: "export" beside the checkpoint'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=FORMATS,
        default=['mmagic'],
        help='what to write: generator.pth, .pt2, .onnx, .aoti.pt2 or '
        '.safetensors, '
        'one or several (default: mmagic)',
    )
    parser.add_argument(
        '--precision',
        nargs='+',
        choices=PRECISIONS,
        default=['fp32'],
        help='in what the files compute, one or several: each format is '
        'written in those that it has (torch_export, aoti: bf16, fp16; onnx: '
        'fp16, int8; default: fp32)',
    )
    parser.add_argument(
        '--tolerance',
        type=fraction,
        default=Precision().tolerance,
        help='refuse a file of less precision whose images differ by more on '
        'average, where they are from -1 to 1 (default: %(default)s)',
    )
    parser.add_argument(
        '--classifier',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='what less precision costs is judged by this classifier as well',
    )
    parser.add_argument(
        '--max-classes',
        type=positive,
        default=16,
        help='compare student and export on so many classes, evenly spread '
        '(default: 16)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        help='override settings of the config, as key=value',
    )
    return parser.parse_args()


def cost_line(cost: dict) -> str:
    line = f'images differ by {cost["mean_difference"]:.2g} on average'
    for key in cost.get('before', {}):
        line += f', {key} {cost["before"][key]:.4g} -> {cost["after"][key]:.4g}'
    return line


def main() -> None:
    args = parse_args()
    config = read_config_file(args.config, args.cfg_options)
    # layers that MMagic has in its own scope, as the U-Net's of pix2pix
    init_default_scope(config.get('default_scope', 'ppcd_mmagic'))
    out_dir = args.out_dir or osp.join(
        osp.dirname(osp.abspath(args.checkpoint)), 'export'
    )
    check_formats(args.format, args.precision)  # before the work
    classifier = args.classifier and build_classifier(
        read_config_file(args.classifier[0]).model, args.classifier[1]
    )
    export = export_student(config, args.checkpoint, args.max_classes)
    judge = classifier and judge_of(config, export.generator, classifier)
    precisions = [
        Precision(name, args.tolerance, judge)
        for name in dict.fromkeys(args.precision)
    ]
    save_export(export, out_dir, args.format, precisions)
    before, after = export.summary['before'], export.summary['after']
    for key in before:
        print(
            f'{key.replace("_", " ")}: {before[key]:,} -> {after[key]:,} '
            f'({before[key] / after[key]:.2f}x smaller)'
        )
    if before['parameters'] == after['parameters']:
        print(
            'nothing was discarded: no channel that can leave was pruned by '
            'all masks that write it'
        )
        print('\n'.join(export.summary['channels']))
    print(
        f'largest difference on {export.summary["classes_compared"]} '
        f'classes: {export.summary["max_difference"]:.2g}'
    )
    for file, cost in export.summary.get('costs', {}).items():
        print(f'{file}: {cost_line(cost)}')
    print(f'written to {out_dir}')


if __name__ == '__main__':
    run(main)
