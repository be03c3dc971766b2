"""Pictures people look at instead of reading figures."""
import json
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.utils import make_grid  # noqa: E402

Series = Dict[str, List[Tuple[int, float]]]


def class_grids(images: Dict[str, Tensor],
                class_names: Sequence[str],
                columns: int,
                width: float = 3.6) -> Figure:
    """Grids side by side, one a model: rows are classes.

    Args:
        images (dict): Images (classes * columns, 3, h, w) in [-1, 1] by model,
            class by class.
        class_names (Sequence[str]): Names of the rows.
        columns (int): Images of each class.
        width (float): Width of a grid in inches. Defaults to 3.6.
    """
    rows = len(class_names)
    figure, axes = plt.subplots(
        1,
        len(images),
        squeeze=False,
        figsize=(width * len(images), width * rows / columns + .6))
    for axis, (name, pictures) in zip(axes.flat, images.items()):
        grid = make_grid(
            pictures.cpu().add(1).div(2).clamp(0, 1),
            nrow=columns,
            padding=1,
            pad_value=1)
        # MMagic's images are BGR
        axis.imshow(grid.flip(0).permute(1, 2, 0), interpolation='nearest')
        axis.set_title(name)
        axis.set_xticks([])
        step = grid.shape[1] / rows
        axis.set_yticks([(row + .5) * step for row in range(rows)],
                        class_names if axis is axes.flat[0] else [''] * rows)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    axes.flat[0].set_ylabel('class asked for')
    figure.tight_layout()
    return figure


def read_scalars(work_dir: str) -> Series:
    """Scalars by name of the newest training in a work directory, as lists of
    (iteration, value), resumed runs joined."""
    series: Dict[str, Dict[int, float]] = defaultdict(dict)
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            step = record.get('step')
            for name, value in record.items():
                if step is not None and isinstance(value, (int, float)):
                    series[name][step] = value
    return {name: sorted(points.items()) for name, points in series.items()}


def curves(series: Series,
           names: Dict[str, str],
           ylabel: str,
           stepwise: bool = False) -> Figure:
    """Curves over the iterations.

    Args:
        series (dict): See :func:`read_scalars`.
        names (dict): Which to draw, and how to label them.
        ylabel (str): Name of the quantity, with its unit.
        stepwise (bool): Whether values start at 0 and hold until the next
            one, as what is logged only when it changes. Defaults to False.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    last = max(points[-1][0] for points in series.values())
    for index, (name, label) in enumerate(names.items()):
        points = series[name]
        if stepwise:
            points = [(0, 0.), *points, (last, points[-1][1])]
        steps, values = zip(*points)
        axis.plot(
            steps,
            values,
            label=label,
            # curves that coincide stay visible through one another
            linestyle=['-', '--', ':'][index % 3] if stepwise else '-',
            linewidth=2.4 - .3 * index if stepwise else 1.2,
            drawstyle='steps-post' if stepwise else 'default')
    axis.set_xlabel('iteration')
    axis.set_ylabel(ylabel)
    axis.grid(alpha=.3)
    axis.legend(fontsize=8, loc='center left', bbox_to_anchor=(1.01, .5))
    figure.tight_layout()
    return figure


def confusion_heatmap(matrix: Tensor, class_names: Sequence[str]) -> Figure:
    """Fractions recognised, rows asked; off the diagonal is class leakage."""
    share = matrix.double() / matrix.sum(1, keepdim=True).clamp_min(1)
    figure, axis = plt.subplots(figsize=(4.4, 3.8))
    shown = axis.imshow(share, cmap='Blues', vmin=0, vmax=1)
    for row, column in torch.nonzero(share >= .005).tolist():
        value = float(share[row, column])
        axis.text(
            column,
            row,
            f'{100 * value:.0f}',
            ha='center',
            va='center',
            fontsize=7,
            color='white' if value > .5 else 'black')
    axis.set_xticks(range(len(class_names)), class_names)
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_xlabel('recognised')
    axis.set_ylabel('asked for')
    figure.colorbar(shown, label='share of the row (numbers: %)')
    figure.tight_layout()
    return figure
