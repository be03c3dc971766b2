"""Kill a training at random moments, resume it, and compare what it becomes.

Each step writes a checkpoint. A third of the kills wait for one that is half
written. After each kill the newest whole checkpoint is read; a training that
has come to its end must equal, bit for bit, one that was never interrupted.
"""

import argparse
import json
import os
import os.path as osp
import random
import shutil
import signal
import sys
import tempfile
import time
from glob import glob

import torch
from mmengine.config import Config
from tqdm import tqdm

from ppcd_mmagic.checkpoints import newest_checkpoint, read_checkpoint
from ppcd_mmagic.engine import SafeRunner
from ppcd_mmagic.errors import PPCDError

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
ITERATIONS = 20
BUILDING = 3  # seconds, about
OPTIONS = {
    'model.generator.base_channels': 4,
    'model.teacher.checkpoint': f'{ROOT}/checkpoints/biggan_digits_16.pth',
    'model.discriminator.discriminator.base_channels': 4,
    'train_cfg.max_iters': ITERATIONS,
    'train_cfg.val_interval': 10 * ITERATIONS,
    'train_dataloader.batch_size': 4,
    'val_evaluator.metrics': [],
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': 2,
    'param_scheduler.begin': ITERATIONS // 2,
    'param_scheduler.end': ITERATIONS,
    'default_hooks.visualization.interval': 10 * ITERATIONS,
    'default_hooks.mask_binarization.begin': 2,
    'default_hooks.mask_binarization.end': ITERATIONS - 2,
    'vis_backends': [],
    'visualizer.vis_backends': [],
    'log_level': 'ERROR',
}


def start(work_dir: str) -> int:
    """Begin or resume the training in a process of its own, and return that.

    It is forked: what takes seconds to import is there already.
    """
    process = os.fork()
    if process:
        return process
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        config = Config.fromfile(
            f'{ROOT}/configs/ppcd_gan/ppcd_digits_16_alpha06.py'
        )
        config.merge_from_dict(OPTIONS)
        config.work_dir = work_dir
        config.resume = True
        SafeRunner.from_cfg(config).train()
        os._exit(0)
    except BaseException:
        os._exit(1)


def ended(process: int) -> bool:
    """Whether it has come to its end by itself.

    Raises:
        RuntimeError: If that was by an error.
    """
    found, status = os.waitpid(process, os.WNOHANG)
    if found and status:
        raise RuntimeError('a resumed training failed')
    return bool(found)


def half_written(work_dir: str, since: float) -> bool:
    for path in glob(osp.join(work_dir, '.iter_*.partial')):
        try:
            if osp.getmtime(path) >= since:
                return True
        except FileNotFoundError:  # complete by now
            pass
    return False


def saved(work_dir: str) -> int:
    """The last iteration of which there is a checkpoint."""
    found = glob(osp.join(work_dir, 'iter_*.pth'))
    return max((int(path.rpartition('_')[2][:-4]) for path in found), default=0)


def kill_somewhere(
    process: int, work_dir: str, steps: int, later: float, mid_write: bool
) -> bool:
    """Kill a training.

    The moment is told by how far it is: a machine that others use is now
    faster, now slower.

    Args:
        process (int): It.
        work_dir (str): Where it is trained.
        steps (int): After so many iterations from where it was.
        later (float): And so much of another, in [0, 1); while it is
            building, which takes as long as some dozen of them, for 0 steps.
        mid_write (bool): Whether to wait for a file that is half written.

    Returns:
        bool: False if it had ended before.
    """
    before = saved(work_dir)
    begin = stamp = time.time()
    done, moment = before, None
    if not steps:
        moment = begin + later * BUILDING
    while not ended(process):
        now = time.time()
        if moment is None and saved(work_dir) > done:
            done, step, stamp = saved(work_dir), now - stamp, now
            if done >= before + steps:
                moment = now + later * step
        if (
            moment
            and now > moment
            and (not mid_write or half_written(work_dir, begin))
        ):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.0005)
    return False


def whole_checkpoints(work_dir: str) -> int:
    count = 0
    for path in glob(osp.join(work_dir, 'iter_*.pth')):
        try:
            read_checkpoint(path, 'saved')
            count += 1
        except PPCDError:
            pass
    return count


def differences(work_dir: str, reference: dict) -> list:
    state = read_checkpoint(
        osp.join(work_dir, f'iter_{ITERATIONS}.pth'), 'last'
    )['state_dict']
    return [
        key
        for key, value in reference.items()
        if not torch.equal(value, state[key])
    ]


def measure(kills: int, seed: int, folder: str) -> dict:
    """Kill so many times, in as many trainings as that takes."""
    chance = random.Random(seed)
    whole = osp.join(folder, 'whole')
    _, status = os.waitpid(start(whole), 0)
    if status:
        raise RuntimeError('the training that is compared with failed')
    reference = read_checkpoint(
        osp.join(whole, f'iter_{ITERATIONS}.pth'), 'whole'
    )['state_dict']
    found = dict(
        kills=0, mid_write=0, trainings=0, least_whole=None, lost=0, different=0
    )
    work_dir = osp.join(folder, 'killed')
    bar = tqdm(total=kills, unit='kill')
    while True:
        process = start(work_dir)
        begin = time.time()
        asked = found['kills'] < kills
        if asked and kill_somewhere(
            process,
            work_dir,
            chance.randrange(5),
            chance.random(),
            found['kills'] % 3 == 0,
        ):
            found['kills'] += 1
            bar.update()
            found['mid_write'] += half_written(work_dir, begin)
            if osp.exists(osp.join(work_dir, 'last_checkpoint')):
                count = whole_checkpoints(work_dir)
                least = found['least_whole']
                found['least_whole'] = min(count, least or count)
                found['lost'] += newest_checkpoint(work_dir) is None
            continue
        while not asked and not ended(process):
            time.sleep(0.05)
        found['trainings'] += 1
        found['different'] += bool(differences(work_dir, reference))
        shutil.rmtree(work_dir)
        if not asked:
            bar.close()
            return found


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='write what was found to this JSON file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)  # the same sums in the same order
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.kills, args.seed, folder)
    print(
        f'{found["kills"]} kills ({found["mid_write"]} in the middle of a '
        f'write) in {found["trainings"]} trainings: at least '
        f'{found["least_whole"]} whole checkpoints at any time, '
        f'{found["lost"]} lost, {found["different"]} trainings that ended '
        'otherwise than the uninterrupted one'
    )
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(found, file, indent=2)
    if found['lost'] or found['different'] or not found['least_whole']:
        sys.exit(1)


if __name__ == '__main__':
    main()
