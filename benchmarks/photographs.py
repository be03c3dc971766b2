"""EDSR x2 and pix2pix on photographs, dense and pruned: docs/foreign.md.

python tools/prepare_photographs.py
python benchmarks/photographs.py --jobs 2    # an hour on two cores
"""

import argparse
import json
import os.path as osp
import sys
from copy import deepcopy
from functools import partial
from glob import glob
from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import matplotlib
import numpy as np
import torch
import torch.nn as nn

import ppcd_mmagic  # noqa: F401, makes MMagic importable everywhere

# isort: split
from mmagic.datasets.transforms import MATLABLikeResize
from mmagic.evaluation.metrics.psnr import psnr
from mmagic.evaluation.metrics.ssim import ssim
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tables import put_into_page, table
from timing import by_turns

from ppcd_mmagic.channels import complexity
from ppcd_mmagic.checkpoints import build_trained_generator, generator_names
from ppcd_mmagic.experiments import (
    Run,
    mean_and_spread,
    read_config,
    shorten,
    train_all,
)
from ppcd_mmagic.generators import example_inputs

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, osp.join(ROOT, 'tools'))
from command_line import positive, run, seed  # noqa: E402

DATA = 'data/photographs'
PAGE = osp.join(ROOT, 'docs', 'foreign.md')
LINES = ['dense', 'pruned by half', 'trained as narrow']
SIGMAS = np.arange(0.6, 2.01, 0.2)
Pictures = List[np.ndarray]


class Task(NamedTuple):
    """A model and what it is measured on.

    Attributes:
        config (str): Of the pruned model; the dense one's is named after it.
        narrow (dict): What makes the dense model as narrow as the pruned one.
        mean, std (float): As the model's preprocessor has them.
        border (int): Pixels at the edge that do not count.
        size (int): Of the square that latency and multiply-adds are of.
        crop (int): Of the square in the middle that is shown.
        anchor (str): What comes of it without a model.
    """

    config: str
    narrow: dict
    mean: float
    std: float
    border: int
    size: int
    crop: int
    anchor: str


TASKS = dict(
    edsr=Task(
        'edsr_x2_photographs',
        dict(mid_channels=16),
        0.0,
        255.0,
        2,
        128,
        96,
        'bicubic',
    ),
    pix2pix=Task(
        'pix2pix_photographs',
        dict(base_channels=8),
        127.5,
        127.5,
        0,
        256,
        192,
        'blurred',
    ),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train EDSR x2 and pix2pix on photographs, where they '
        'have not been trained yet, dense and pruned by half; write the '
        'tables and pictures of docs/foreign.md.'
    )
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=list(TASKS)
    )
    parser.add_argument('--seeds', type=seed, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--max-iters',
        type=positive,
        help="train for so many iterations instead of the config's",
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        choices=LINES,
        default=LINES,
        help='of the tables (default: all)',
    )
    parser.add_argument('--jobs', type=positive, default=1)
    parser.add_argument('--root', default='work_dirs/photographs')
    return parser.parse_args()


def configs_of(task: Task) -> Dict[str, Config]:
    """By line of the table."""
    dense = read_config(f'foreign/{task.config}_dense.py')
    narrow = deepcopy(dense)
    narrow.model.generator.update(task.narrow)
    pruned = read_config(f'foreign/{task.config}.py')
    return dict(zip(LINES, (dense, pruned, narrow)))


def generator_of(one: Run, task: Task) -> nn.Module:
    """The generator of a run, as it is used: exported, where it has masks."""
    config, checkpoint = one.tested
    (name,) = generator_names(checkpoint, one.name)
    generator = build_trained_generator(
        Config.fromfile(config), checkpoint, one.name, name
    )
    generator.input_shape = (3, task.size, task.size)
    return generator


@torch.no_grad()
def draw(generator: nn.Module, task: Task, picture: np.ndarray) -> np.ndarray:
    """What it makes of a picture (h, w, 3), both in whole numbers."""
    values = (torch.from_numpy(picture).float() - task.mean) / task.std
    (image,) = generator(values.permute(2, 0, 1)[None])
    return as_picture(image.permute(1, 2, 0) * task.std + task.mean)


def as_picture(values) -> np.ndarray:
    return np.asarray(values).clip(0, 255).round().astype(np.uint8)


def read(name: str, split: str) -> Tuple[Pictures, Pictures]:
    """Inputs and truths of a task, in the channel order of its model."""
    if name == 'edsr':
        return tuple(
            [
                cv2.imread(path)[..., ::-1].copy()
                for path in sorted(glob(f'{DATA}/{split}/{kind}/*.png'))
            ]
            for kind in ('lq', 'gt')
        )
    pairs = [
        np.split(cv2.imread(path), 2, axis=1)
        for path in sorted(glob(f'{DATA}/pairs/{split}/*.png'))
    ]
    return tuple(map(list, zip(*((made, photo) for photo, made in pairs))))


def bicubic(picture: np.ndarray) -> np.ndarray:
    enlarged = MATLABLikeResize(keys=['img'], scale=2)(dict(img=picture))
    return as_picture(enlarged['img'])


def blurred() -> Callable:
    """A Gaussian, as wide as is best for the training pictures."""
    inputs, truths = read('pix2pix', 'train')

    def quality(sigma: float) -> float:
        return np.mean(
            [
                psnr(cv2.GaussianBlur(made, (0, 0), sigma), photo)
                for made, photo in zip(inputs, truths)
            ]
        )

    return partial(
        cv2.GaussianBlur, ksize=(0, 0), sigmaX=max(SIGMAS, key=quality)
    )


def qualities(task: Task, drawn: Pictures, truths: Pictures) -> dict:
    """Means over the pictures."""
    return {
        key: float(
            np.mean(
                [
                    measure(truth, picture, crop_border=task.border)
                    for truth, picture in zip(truths, drawn)
                ]
            )
        )
        for key, measure in (('PSNR, dB', psnr), ('SSIM', ssim))
    }


def sizes(generator: nn.Module) -> dict:
    found = complexity(generator, example_inputs(generator, batch=1))
    return {
        'parameters': f'{found["parameters"]:,}',
        'multiply-adds': f'{found["multiply_adds"] / 1e6:,.0f} M',
    }


def latencies(generators: Dict[str, nn.Module]) -> Dict[str, float]:
    """Seconds of one picture, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def once(generator: nn.Module) -> None:
        with torch.no_grad():
            generator(example_inputs(generator, batch=1)[0])

    found = by_turns(
        {
            name: partial(once, generator)
            for name, generator in generators.items()
        },
        rounds=15,
    )
    torch.set_num_threads(threads)
    return found


def measured(name: str, task: Task, runs: List[Run]) -> Tuple[list, dict]:
    """Lines of the table, and pictures by column."""
    inputs, truths = read(name, 'test')
    anchor = bicubic if name == 'edsr' else blurred()
    columns = {'input': inputs, task.anchor: list(map(anchor, inputs))}
    lines = [
        {'': column, **qualities(task, columns[column], truths)}
        for column in ([] if name == 'edsr' else ['input']) + [task.anchor]
    ]
    generators = {}
    for line in dict.fromkeys(one.name for one in runs):
        found = []
        for one in (one for one in runs if one.name == line):
            generator = generator_of(one, task)
            drawn = [draw(generator, task, picture) for picture in inputs]
            found.append(qualities(task, drawn, truths))
            if line not in generators:
                generators[line], columns[line] = generator, drawn
        row = {'': line}
        for key in found[0]:
            row[key] = mean_and_spread([each[key] for each in found])
        lines.append({**row, **sizes(generators[line])})
    seconds = latencies(generators)
    for row in lines:
        if row[''] in seconds:
            row['latency'] = f'{seconds[row[""]] * 1e3:.1f} ms'
    return lines, {**columns, 'truth': truths}


def cell(key: str, value) -> str:
    if isinstance(value, str):
        return value
    mean, spread = value if isinstance(value, tuple) else (value, 0.0)
    digits = 2 if 'dB' in key else 3
    return f'{mean:.{digits}f}' + (f' ± {spread:.{digits}f}' if spread else '')


def rows_of(lines: List[dict]) -> List[List[str]]:
    """Head and rows; what a line has not been measured in stays empty."""
    keys = list(lines[-1])
    return [
        keys,
        *([cell(key, line.get(key, '')) for key in keys] for line in lines),
    ]


def show(
    columns: Dict[str, Pictures], crop: int, flip: bool, path: str
) -> None:
    """The middle of each picture, column by column.

    Args:
        columns (dict): Pictures by column; smaller ones are enlarged.
        crop (int): Size in pixels of the truth.
        flip (bool): Whether their channels are BGR.
        path (str): File to write.
    """
    truths = columns['truth']
    figure, axes = plt.subplots(
        len(truths),
        len(columns),
        squeeze=False,
        figsize=(2 * len(columns), 2.1 * len(truths)),
    )
    for index, (column, pictures) in enumerate(columns.items()):
        axes[0, index].set_title(column, fontsize=9)
        for axis, picture, truth in zip(axes[:, index], pictures, truths):
            size = crop * len(picture) // len(truth)
            top, left = ((full - size) // 2 for full in picture.shape[:2])
            shown = picture[top : top + size, left : left + size]
            axis.imshow(shown[..., ::-1] if flip else shown)
            axis.axis('off')
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=110)
    print(f'drawn to {path}')


def main() -> None:
    args = parse_args()
    DefaultScope.get_instance('photographs', scope_name='ppcd_mmagic')
    runs = {
        name: [
            Run(
                line,
                shorten(config, args.max_iters),
                seed,
                osp.join(args.root, name),
            )
            for line, config in configs_of(TASKS[name]).items()
            if line in args.lines
            for seed in args.seeds
        ]
        for name in args.tasks
    }
    everything = [one for several in runs.values() for one in several]
    train_all(sorted(everything, key=lambda one: one.seed), args.jobs)
    for name, several in runs.items():
        lines, columns = measured(name, TASKS[name], several)
        text = table(rows_of(lines))
        print(f'\n{name}\n{text}')
        with open(osp.join(args.root, f'{name}.json'), 'w') as file:
            json.dump(lines, file, indent=1)
        put_into_page(PAGE, name, text)
        show(
            columns,
            TASKS[name].crop,
            name == 'pix2pix',
            osp.join(ROOT, 'docs', f'foreign_{name}.png'),
        )


if __name__ == '__main__':
    run(main)
