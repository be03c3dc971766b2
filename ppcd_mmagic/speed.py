"""How fast generators run, beside what the machine can do."""

import ctypes
import gc
import math
import os.path as osp
import statistics
import time
from copy import deepcopy
from functools import partial
from itertools import product
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format
from tqdm import tqdm

from ppcd_mmagic.channels import complexity, without_masks
from ppcd_mmagic.checkpoints import build_generator, build_trained_generator
from ppcd_mmagic.export import (
    PRECISIONS,
    call_by_name,
    file_inputs,
    require_torch,
)
from ppcd_mmagic.files import refuse_changed
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.onnx_generator import OnnxGenerator
from ppcd_mmagic.registry import MODELS

Inputs = Dict[str, Tensor]


class Way(NamedTuple):
    """One way to run a generator.

    Attributes:
        run: Called with its inputs by name.
        generator: What they are the inputs of.
    """

    run: Callable[[Inputs], Any]
    generator: nn.Module


class Speed(NamedTuple):
    """What :func:`measure_speed` finds for one way and one batch size.

    Attributes:
        name: Of the way.
        batch_size: Images at once.
        milliseconds: Median time of a batch.
        images_per_second: At this batch size.
        limit: Its multiply-adds a second as a part of those that the machine
            does in a large matrix product. It is above 1 where convolutions
            need fewer multiplications than are counted (Winograd).
        mebibytes: Most memory beyond what the process had before the batch;
            NaN where the system does not tell.
    """

    name: str
    batch_size: int
    milliseconds: float
    images_per_second: float
    limit: float
    mebibytes: float


def ways_of(
    config: Config, weights: str, compiled: bool = False
) -> Dict[str, Way]:
    """The ways to run what a config and its weights stand for.

    Args:
        config (Config): A training config, or one that was exported.
        weights (str): Its checkpoint, or the exported ``generator.pth``;
            further formats are looked for beside it.
        compiled (bool): Whether ``torch.compile`` is tried, which may take
            a minute for each batch size. Defaults to False.

    Returns:
        Dict[str, Way]: By name: 'teacher', where the config has one, 'dense'
        (the generator as it was before pruning), 'trained' or 'exported', in
        other layouts, and the formats.

    Raises:
        PPCDError: If the weights are missing or do not fit.
    """
    generator = build_trained_generator(config, weights, 'generator')
    exported = 'layer_sizes' in config.model.generator
    name = 'exported' if exported else 'trained'
    # an export is laid out by itself, which this takes back
    layout = 'contiguous' if exported else 'channels_last'
    by_hand = convert_conv2d_weight_memory_format(
        deepcopy(generator),
        torch.contiguous_format if exported else torch.channels_last,
    )
    ways = {
        **_others(config),
        name: _eager(generator),
        f'{name}, {layout}': _eager(by_hand),
    }
    if compiled:
        ways[f'{name}, compiled'] = Way(
            partial(call_by_name, torch.compile(generator)), generator
        )
    if exported:
        ways.update(_files(generator, osp.dirname(weights)))
    return ways


def _others(config: Config) -> Dict[str, Way]:
    """What stands beside it; how fast it is does not depend on weights."""
    found = {}
    teacher = config.model.get('teacher')
    if teacher:
        found['teacher'] = _eager(MODELS.build(teacher['generator']))
    own = config.model.generator
    dense = own.generator if 'layer_sizes' in own else own
    with without_masks():
        found['dense'] = _eager(
            build_generator(
                ConfigDict(model=dict(config.model, generator=dense))
            )
        )
    return found


def _eager(generator: nn.Module) -> Way:
    return Way(partial(call_by_name, generator.eval()), generator)


def _files(generator: nn.Module, folder: str) -> Dict[str, Way]:
    found = {}
    for (what, (ending, opened)), precision in product(
        _OPENED.items(), PRECISIONS
    ):
        less = precision != 'fp32'
        path = osp.join(
            folder, f'generator{f".{precision}" if less else ""}.{ending}'
        )
        if osp.isfile(path):
            refuse_changed(path)
            name = f'{what}, {precision}' if less else what
            found[name] = Way(opened(path), generator)
    return found


def _open_program(path: str) -> Callable[[Inputs], Tensor]:
    require_torch('torch_export')
    program = torch.export.load(path).module()
    return lambda inputs: program(**inputs)


def _open_package(path: str) -> Callable[[Inputs], Tensor]:
    require_torch('aoti')
    package = torch._inductor.aoti_load_package(path)
    return lambda inputs: package(**inputs)


def _open_onnx(path: str) -> Callable[[Inputs], Tensor]:
    return partial(call_by_name, OnnxGenerator(path))


_OPENED = {
    'torch.export': ('pt2', _open_program),
    'AOTInductor': ('aoti.pt2', _open_package),
    'ONNX Runtime': ('onnx', _open_onnx),
}


def machine_limit(size: int = 2048, rounds: int = 5) -> float:
    """Multiply-adds a second in a matrix product, float32.

    Args:
        size (int): Of the square matrices. Defaults to 2048.
        rounds (int): The fastest of so many counts. Defaults to 5.
    """
    a, b = torch.randn(2, size, size)
    return size**3 / min(_seconds(lambda: a @ b) for _ in range(rounds + 1))


@torch.no_grad()
def measure_speed(
    ways: Dict[str, Way], batch_sizes: Sequence[int], rounds: int = 5
) -> List[Speed]:
    """Time and memory of generators on the CPU.

    They take turns, so that whatever else the machine does meets them all;
    the machine's limit is measured between them.

    Args:
        ways (Dict[str, Way]): See :func:`ways_of`.
        batch_sizes (Sequence[int]): Images at once.
        rounds (int): Turns of each, after one that does not count. Defaults
            to 5.
    """
    work = {
        name: complexity(way.generator, example_inputs(way.generator, batch=1))[
            'multiply_adds'
        ]
        for name, way in ways.items()
    }
    found = []
    for size in batch_sizes:
        inputs = {
            name: file_inputs(way.generator, size) for name, way in ways.items()
        }
        memory = {
            name: _memory(partial(way.run, inputs[name]))
            for name, way in ways.items()
        }
        seconds, limit = _by_turns(ways, inputs, rounds, size)
        found += [
            Speed(
                name,
                size,
                1e3 * taken,
                size / taken,
                size * work[name] / taken / limit,
                memory[name],
            )
            for name, taken in seconds.items()
        ]
    return found


def _by_turns(
    ways: Dict[str, Way], inputs: Dict[str, Inputs], rounds: int, size: int
) -> Tuple[Dict[str, float], float]:
    times: Dict[str, List[float]] = {name: [] for name in ways}
    limits = []
    for turn in tqdm(range(rounds + 1), desc=f'batches of {size}', unit='turn'):
        limits.append(machine_limit(rounds=1))
        for name, way in ways.items():
            taken = _seconds(partial(way.run, inputs[name]))
            if turn:
                times[name].append(taken)
    return (
        {name: statistics.median(t) for name, t in times.items()},
        max(limits),
    )


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _memory(function: Callable[[], Any]) -> float:
    """Most MiB that the process takes beyond what it has, by Linux's own
    count; NaN where there is none."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what it has beside, for others
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')  # the largest size is from now on
    except (OSError, AttributeError):
        return math.nan
    before = _kibibytes('VmRSS')
    function()
    return (_kibibytes('VmHWM') - before) / 2**10


def _kibibytes(key: str) -> int:
    with open('/proc/self/status') as file:
        return next(
            int(line.split()[1]) for line in file if line.startswith(f'{key}:')
        )
