"""A student to measure: as many channels pruned as alpha says, nothing trained.

python benchmarks/student.py            # 128 px, in work_dirs/speed
"""

import argparse
import os.path as osp

import torch
from cases import prune, settle
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ppcd_mmagic.engine import merge_options
from ppcd_mmagic.experiments import pruning_hooks
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.registry import MODELS

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write config.py and student.pth of a student whose masks '
        'are pruned at random, for speed does not depend on the values.'
    )
    parser.add_argument(
        'config',
        nargs='?',
        default=f'{ROOT}/configs/ppcd_biggan_128_alpha06.py',
        help='one with masks (default: %(default)s, with shared masks)',
    )
    parser.add_argument(
        '--out-dir',
        default='work_dirs/speed',
        help='where (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = Config.fromfile(args.config)
    hooks = pruning_hooks(config)
    if not hooks or 'noise_size' not in config.model:
        raise SystemExit(
            f'error: {args.config} prunes no generator of noise and classes'
        )
    (hook,) = hooks
    options = {}
    if config.model.get('teacher'):
        options['model.teacher'] = None  # its weights are not needed
    if 'PPRes' in config.model.generator.type:
        options['model.generator.residual_masks'] = 'shared'
        options['model.generator.auto_sync_bn'] = False
    merge_options(config, options, args.config)
    init_default_scope('ppcd_mmagic')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    settle(model.generator)
    prune(model.generator, hook['alpha'])
    if model.with_ema_gen:
        model.generator_ema.module.load_state_dict(model.generator.state_dict())
    make_folder(args.out_dir)
    with written_whole(osp.join(args.out_dir, 'student.pth')) as path:
        torch.save(dict(state_dict=model.state_dict()), path)
    config.dump(osp.join(args.out_dir, 'config.py'))
    print(f'written to {args.out_dir}')


if __name__ == '__main__':
    main()
