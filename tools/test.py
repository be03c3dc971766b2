"""Evaluate a checkpoint, or an exported generator, with its config."""

import argparse
import os.path as osp

import mmengine
from command_line import add_run_arguments, build_runner, read_config, run
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import ppcd_mmagic  # noqa: F401, makes MMagic importable and registers parts
from ppcd_mmagic.engine import config_problems, find_problems
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import local_file, make_folder, written_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Evaluate a model.')
    parser.add_argument('config', help='config it was trained or exported with')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    add_run_arguments(parser)
    return parser.parse_args()


def load_config(args: argparse.Namespace) -> Config:
    if not osp.isfile(local_file(args.checkpoint)):
        raise PPCDError(f'checkpoint "{args.checkpoint}" not found.')
    config = read_config(args)
    config.load_from = args.checkpoint
    config.resume = False  # as it stands in the config of a resumed training
    if config.model.get('teacher'):
        config.model.teacher = None  # only training needs it
    return config


class SaveMetrics(Hook):
    """Writes the metrics; MMagic's test loop does not return them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def after_test_epoch(self, runner: Runner, metrics: dict = None) -> None:
        numbers = {  # MMagic's MAE is a tensor
            name: value.item() if hasattr(value, 'item') else value
            for name, value in (metrics or {}).items()
        }
        with written_whole(self.path) as path:
            mmengine.dump(numbers, path, file_format='json')
        print(f'metrics are in {self.path}')


def main() -> None:
    args = parse_args()
    config = load_config(args)
    loops = ['test']
    problems = config_problems(config, loops) or find_problems(config, loops)
    if problems:
        raise PPCDError(*problems)
    if args.out:  # before minutes are spent
        make_folder(osp.dirname(args.out))
        if osp.isdir(args.out):
            raise PPCDError(f'--out: {args.out} is a folder, name a file.')
    runner = build_runner(config)
    if args.out:
        runner.register_hook(SaveMetrics(args.out), 'LOWEST')
    runner.test()


if __name__ == '__main__':
    run(main)
