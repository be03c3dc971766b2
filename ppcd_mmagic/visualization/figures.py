"""Pictures people look at instead of reading figures."""

import json
from collections import defaultdict
from pathlib import Path
from textwrap import fill
from typing import Any, Dict, List, Sequence, Tuple

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.utils import make_grid  # noqa: E402

Series = Dict[str, List[Tuple[int, float]]]


def class_grids(
    images: Dict[str, Tensor],
    class_names: Sequence[str],
    columns: int,
    width: float = 3.6,
) -> Figure:
    """Grids side by side, one a model: rows are classes. More than six models
    go on below.

    Args:
        images (dict): Images (classes * columns, 3, h, w) in [-1, 1] by model,
            class by class.
        class_names (Sequence[str]): Names of the rows.
        columns (int): Images of each class.
        width (float): Width of a grid in inches. Defaults to 3.6.
    """
    rows = len(class_names)
    lines = -(-len(images) // 6)
    beside = -(-len(images) // lines)
    figure, axes = plt.subplots(
        lines,
        beside,
        squeeze=False,
        figsize=(width * beside, lines * (width * rows / columns + 0.6)),
    )
    for axis in axes.flat[len(images) :]:
        axis.remove()
    for axis, (name, pictures) in zip(axes.flat, images.items()):
        height = _show_grid(axis, pictures, columns)
        # about ten letters an inch
        title = fill(name, int(10 * width), break_on_hyphens=False)
        axis.set_title(title, fontsize=10)
        step = height / rows
        axis.set_yticks(
            [(row + 0.5) * step for row in range(rows)],
            class_names if axis in axes[:, 0] else [''] * rows,
        )
    for axis in axes[:, 0]:
        axis.set_ylabel('class asked for')
    figure.tight_layout()
    return figure


def _show_grid(axis: plt.Axes, images: Tensor, columns: int) -> int:
    """Draw images (n, 3, h, w) in [-1, 1]; returns the height in pixels."""
    width = images.shape[-1]
    grid = make_grid(
        images.cpu().add(1).div(2).clamp(0, 1),
        nrow=columns,
        padding=max(1, width // 16),
        pad_value=1,
    )
    axis.imshow(
        grid.flip(0).permute(1, 2, 0),  # MMagic's images are BGR
        # pixels of small images are to be seen, large ones to be scaled down
        interpolation='nearest' if width <= 32 else 'antialiased',
    )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return grid.shape[1]


def picture_table(images: Dict[str, Dict[str, Tensor]], columns: int) -> Figure:
    """Small grids of pictures in the cells of a table.

    Args:
        images (dict): Images (n, 3, h, w) in [-1, 1] by row and column of the
            table; all rows have the same columns.
        columns (int): Images in a line of a grid.
    """
    cells = next(iter(images.values()))
    lines = len(next(iter(cells.values()))) / columns
    figure, axes = plt.subplots(
        len(images),
        len(cells),
        squeeze=False,
        figsize=(
            2.6 * len(cells) + 1.5,
            (2.6 * lines / columns + 0.06) * len(images) + 0.4,
        ),
        layout='constrained',
    )
    for index, (row, cells) in enumerate(images.items()):
        for axis, (column, pictures) in zip(axes[index], cells.items()):
            _show_grid(axis, pictures, columns)
            if index == 0:
                axis.set_title(column, fontsize=10)
        axes[index][0].set_ylabel(row, rotation=0, ha='right', va='center')
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


def curves(
    series: Series, names: Dict[str, str], ylabel: str, stepwise: bool = False
) -> Figure:
    """Curves over the iterations.

    Args:
        series (dict): See :func:`read_scalars`.
        names (dict): Which to draw, and how to label them.
        ylabel (str): Name of the quantity, with its unit.
        stepwise (bool): Whether values start at 0 and hold until the next
            one, as what is logged only when it changes. Defaults to False.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    _draw_curves(axis, series, names, stepwise)
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=8, loc='center left', bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    return figure


def sparsity_panels(runs: Dict[str, Series]) -> Figure:
    """How the masks of several trainings were pruned, side by side.

    Args:
        runs (dict): See :func:`read_scalars`, by title; each of a training
            with the same masks.
    """
    figure, axes = plt.subplots(
        1,
        len(runs),
        squeeze=False,
        sharey=True,
        figsize=(3.6 * len(runs) + 2, 3.4),
    )
    for axis, (title, series) in zip(axes.flat, runs.items()):
        names = {
            name: name.removeprefix('sparsity/')
            for name in sorted(series)
            if name.startswith('sparsity/')
        }
        _draw_curves(axis, series, names, stepwise=True)
        axis.set_title(title, fontsize=10)
    axes.flat[0].set_ylabel('pruned channels (fraction)')
    axes.flat[-1].legend(
        *max(  # a run may have pruned nothing
            (axis.get_legend_handles_labels() for axis in axes.flat),
            key=lambda found: len(found[0]),
        ),
        fontsize=8,
        loc='center left',
        bbox_to_anchor=(1.01, 0.5),
    )
    figure.tight_layout()
    return figure


def _draw_curves(
    axis: plt.Axes, series: Series, names: Dict[str, str], stepwise: bool
) -> None:
    last = max(points[-1][0] for points in series.values())
    for index, (name, label) in enumerate(names.items()):
        points = series[name]
        if stepwise:
            points = [(0, 0.0), *points, (last, points[-1][1])]
        steps, values = zip(*points)
        axis.plot(
            steps,
            values,
            label=label,
            # curves that coincide stay visible through one another
            linestyle=['-', '--', ':'][index % 3] if stepwise else '-',
            linewidth=2.4 - 0.3 * index if stepwise else 1.2,
            drawstyle='steps-post' if stepwise else 'default',
        )
    axis.set_xlabel('iteration')
    axis.grid(alpha=0.3)


def confusion_heatmaps(
    matrices: Dict[str, Tensor], class_names: Sequence[str]
) -> Figure:
    """Class leakage of several models, side by side: percentages of the class
    asked for (rows) that are recognised as a class (columns).

    Args:
        matrices (dict): Counts (c, c) by model, see ``confusion_matrix``.
        class_names (Sequence[str]): Names of the c classes.
    """
    figure, axes = plt.subplots(
        1,
        len(matrices),
        squeeze=False,
        figsize=(3.3 * len(matrices) + 0.8, 3.6),
        layout='constrained',
    )
    for axis, (name, matrix) in zip(axes.flat, matrices.items()):
        share = matrix.double() / matrix.sum(1, keepdim=True).clamp_min(1)
        shown = axis.imshow(share, cmap='Blues', vmin=0, vmax=1)
        for row, column in torch.nonzero(share >= 0.005).tolist():
            value = float(share[row, column])
            axis.text(
                column,
                row,
                f'{100 * value:.0f}',
                ha='center',
                va='center',
                fontsize=7,
                color='white' if value > 0.5 else 'black',
            )
        axis.set_title(name, fontsize=10)
        turned = 90 if max(map(len, class_names)) > 2 else 0
        axis.set_xticks(range(len(class_names)), class_names, rotation=turned)
        axis.set_yticks(range(len(class_names)), class_names)
        axis.set_xlabel('recognised')
    axes.flat[0].set_ylabel('asked for')
    figure.colorbar(
        shown, ax=axes, label='share of the row (numbers: %)', shrink=0.8
    )
    return figure


def speed_bars(found: Sequence[Any]) -> Figure:
    """Milliseconds an image, a panel for each batch size.

    Args:
        found (Sequence[Speed]): See ``measure_speed``.
    """
    sizes = sorted({speed.batch_size for speed in found})
    figure, axes = plt.subplots(
        1,
        len(sizes),
        squeeze=False,
        sharey=True,
        layout='constrained',
        figsize=(4.2 * len(sizes) + 1.5, 0.4 * len(found) / len(sizes) + 1.2),
    )
    for axis, size in zip(axes.flat, sizes):
        rows = [speed for speed in found if speed.batch_size == size]
        each = [speed.milliseconds / size for speed in rows]
        bars = axis.barh([speed.name for speed in rows], each, color='tab:blue')
        axis.bar_label(
            bars,
            [
                f' {ms:.3g} ms, {speed.limit:.0%}'
                for ms, speed in zip(each, rows)
            ],
            fontsize=8,
        )
        axis.set_xlim(0, 1.45 * max(each))
        axis.set_title(f'batch of {size}', fontsize=10)
        axis.set_xlabel("ms an image (%: of the machine's limit)")
    axes.flat[0].invert_yaxis()
    return figure
