"""What it costs that a training loses nothing: guard, signals, safe writing.

    python benchmarks/overhead.py            # the student of the digits
    python benchmarks/overhead.py CONFIG --cfg-options model.teacher.checkpoint=...

Two trainings of a config take turns, iteration by iteration: one as the
config says, one with MMEngine's runner, loop and checkpoint hook and without
guard and signals. Both write as many checkpoints. The lock and the looks at
data and config come before the first iteration and are in neither.
"""

import argparse
import json
import multiprocessing
import os.path as osp
import statistics
import tempfile
import time
from multiprocessing import connection
from types import SimpleNamespace
from typing import List

from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.engine import SafeRunner

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
WARMUP = 5  # iterations that are not counted


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure what guard, signals and safe writing cost.'
    )
    parser.add_argument(
        'config',
        nargs='?',
        default=f'{ROOT}/configs/ppcd_gan/ppcd_digits_16_alpha06.py',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={
            'model.teacher.checkpoint': f'{ROOT}/checkpoints/biggan_digits_16.pth'
        },
    )
    parser.add_argument(
        '--iterations',
        type=int,
        default=400,
        help='of each of two trainings of either kind (default: 400)',
    )
    parser.add_argument(
        '--interval',
        type=int,
        default=200,
        help='iterations between two checkpoints (default: 200)',
    )
    parser.add_argument('--out', help='write the figures here, as JSON')
    return parser.parse_args()


def prepared(args: argparse.Namespace, work_dir: str) -> Config:
    config = Config.fromfile(args.config)
    config.merge_from_dict(
        {
            'train_cfg.max_iters': args.iterations,
            'default_hooks.checkpoint.interval': args.interval,
            'log_level': 'ERROR',
            **args.cfg_options,
        }
    )
    config.work_dir = work_dir
    for part in ('cfg', 'dataloader', 'evaluator'):  # nothing is judged
        config[f'val_{part}'] = config[f'test_{part}'] = None
    return config


def by_mmengine(config: Config) -> Config:
    """The same training without this package's parts that keep it safe."""
    hooks = config.default_hooks
    del hooks['finite_guard'], hooks['stop_signal']
    hooks.checkpoint.type = 'CheckpointHook'
    config.train_cfg.type = 'IterBasedTrainLoop'
    return config


class Begin(Hook):
    """Waits for its turn and starts the clock, before all other hooks."""

    priority = 'HIGHEST'

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock

    def before_train_iter(self, *args, **kwargs) -> None:
        self.clock.own.acquire()
        self.clock.start = time.perf_counter()


class End(Hook):
    """Stops the clock after all other hooks, and lets the other one go on."""

    priority = 'LOWEST'

    def __init__(self, clock: SimpleNamespace) -> None:
        self.clock = clock

    def after_train_iter(self, *args, **kwargs) -> None:
        self.clock.seconds.append(time.perf_counter() - self.clock.start)
        self.clock.other.release()


def train(kind: type, config: Config, own, other, sender) -> None:
    clock = SimpleNamespace(own=own, other=other, seconds=[])
    runner = kind.from_cfg(config)
    runner.register_hook(Begin(clock))
    runner.register_hook(End(clock))
    runner.train()
    sender.send(clock.seconds)


def by_turns(args: argparse.Namespace, first: int) -> List[List[float]]:
    """Seconds of every iteration, of the safe training and of MMEngine's, of
    which the first (0) or the second (1) begins."""
    context = multiprocessing.get_context('fork')
    turns = [context.Semaphore(int(index == first)) for index in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        trainings = [
            (SafeRunner, prepared(args, f'{folder}/safe')),
            (Runner, by_mmengine(prepared(args, f'{folder}/plain'))),
        ]
        processes, receivers = [], []
        for index, (kind, config) in enumerate(trainings):
            receiver, sender = context.Pipe(duplex=False)
            processes.append(
                context.Process(
                    target=train,
                    args=(kind, config, turns[index], turns[1 - index], sender),
                    daemon=True,
                )
            )
            processes[-1].start()
            sender.close()  # so that an end without a message is heard
            receivers.append(receiver)
        seconds = {}
        while len(seconds) < len(receivers):
            for receiver in connection.wait(set(receivers) - set(seconds)):
                # EOFError, which ends both, if one has failed
                seconds[receiver] = receiver.recv()
        for process in processes:
            process.join()
    return [seconds[receiver][WARMUP:] for receiver in receivers]


def figures(args: argparse.Namespace) -> dict:
    # whichever begins has the caches of the other behind it: each does once
    both = [by_turns(args, first) for first in range(2)]
    safe, plain = ([*a, *b] for a, b in zip(*both))
    saving = 2 * [
        number % args.interval == 0
        for number in range(WARMUP + 1, args.iterations + 1)
    ]

    def median(of_saving: bool) -> float:
        return statistics.median(
            a / b
            for a, b, saves in zip(safe, plain, saving)
            if saves is of_saving
        )

    return dict(
        iterations=len(safe),
        checkpoints=sum(saving),
        whole=round(sum(safe) / sum(plain), 4),
        iteration=round(median(False), 4),
        iteration_with_checkpoint=round(median(True), 4),
    )


def main() -> None:
    args = parse_args()
    if args.iterations < max(args.interval, WARMUP + 1):
        raise SystemExit(
            '--iterations must be more than '
            f'{max(args.interval, WARMUP + 1) - 1}'
        )
    found = figures(args)
    print(
        f'{found["iterations"]} iterations and {found["checkpoints"]} '
        'checkpoints of each, by turns; time with guard, signals and safe '
        f"writing over MMEngine's: {found['whole']} on the whole, "
        f'{found["iteration"]} of an iteration (median of pairs), '
        f'{found["iteration_with_checkpoint"]} of one that is saved'
    )
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(found, file, indent=1)


if __name__ == '__main__':
    main()
