"""Time and memory of functions, by turns."""

import statistics
import time
from typing import Callable, Dict

import torch
from torch.distributed._tools.mem_tracker import MemTracker


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def by_turns(
    functions: Dict[str, Callable], rounds: int, warmup: int = 1
) -> Dict[str, float]:
    """Median seconds of each function. They take turns, so that a load that
    comes and goes meets them all."""
    seconds = {name: [] for name in functions}
    for turn in range(warmup + rounds):
        for name, function in functions.items():
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def peak_memory(model: torch.nn.Module, function: Callable) -> float:
    """Most MiB that tensors take during an inference, the model's own
    included."""
    model.requires_grad_(True)  # the tracker hangs its hooks on gradients
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker, torch.no_grad():
        function()
    model.requires_grad_(False)
    by_device = tracker.get_tracker_snapshot('peak')
    return sum(sizes['Total'] for sizes in by_device.values()) / 2**20
