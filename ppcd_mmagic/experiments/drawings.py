"""Charts and pictures of what was run."""

from typing import Any, Dict, List, Sequence

import matplotlib
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ppcd_mmagic.datasets import class_names
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import build_classifier, recognise
from ppcd_mmagic.files import written_whole
from ppcd_mmagic.generators import draw_noise
from ppcd_mmagic.visualization import (
    class_grids,
    confusion_heatmaps,
    picture_table,
    read_scalars,
    sparsity_panels,
)

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import EngFormatter  # noqa: E402

from .runs import Metrics, Run  # noqa: E402
from .tables import mean_and_spread  # noqa: E402


def bar_chart(
    results: Dict[str, List[Metrics]], labels: Dict[str, str], path: str
) -> None:
    """One panel a metric, one bar a name, error bars over the seeds.

    Args:
        results (dict): See :func:`run_all`.
        labels (dict): Metrics to draw, and how to label their axes.
        path (str): Picture to write.
    """
    figure, axes = plt.subplots(
        1, len(labels), figsize=(3.2 * len(labels), 0.45 * len(results) + 1.3)
    )
    names = list(results)
    for axis, (key, label) in zip(axes, labels.items()):
        means, spreads = zip(
            *(mean_and_spread([m[key] for m in results[n]]) for n in names)
        )
        axis.barh(
            names,
            means,
            xerr=spreads if any(spreads) else None,
            capsize=3,
            color='#4477aa',
        )
        axis.set_xlabel(label)
        if max(means) >= 1e4:
            axis.xaxis.set_major_formatter(EngFormatter(sep=''))
        axis.invert_yaxis()
        if axis is not axes[0]:
            axis.set_yticklabels([])
    figure.tight_layout()
    _save(figure, path)


def line_chart(
    points: Dict[str, Dict[float, List[Metrics]]],
    labels: Dict[str, str],
    xlabel: str,
    path: str,
) -> None:
    """One panel a metric, one line a series, error bars over the seeds."""
    figure, axes = plt.subplots(
        1, len(labels), figsize=(3.4 * len(labels), 3.2)
    )
    for axis, (key, label) in zip(axes, labels.items()):
        for name, series in points.items():
            xs = sorted(series)
            means, spreads = zip(
                *(mean_and_spread([m[key] for m in series[x]]) for x in xs)
            )
            axis.errorbar(xs, means, spreads, marker='o', capsize=3, label=name)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc='lower center',
        ncol=len(points),
    )
    _save(figure, path)


LABELS = {
    'parameters': 'parameters',
    'domain/accuracy': 'class accuracy (fraction)',
    'domain/frechet': 'Fréchet distance (domain)',
    'domain/variety': 'variety (1 = real)',
    'FID-Full-50k/fid': 'FID',
    'IS-50k/is': 'IS',
    'class/accuracy': 'class accuracy (fraction)',
}


def labels_for(results: Dict[str, List[Metrics]]) -> Dict[str, str]:
    """The metrics worth drawing; the table has them all."""
    keys = next(iter(results.values()))[0]
    return {key: label for key, label in LABELS.items() if key in keys}


def of_one_seed(runs: Sequence[Run]) -> List[Run]:
    """Those of the first seed, for the pictures."""
    return [run for run in runs if run.seed == runs[0].seed]


@torch.no_grad()
def images_of(run: Run, per_class: int, max_classes: int = 10) -> torch.Tensor:
    """The same noise for every run; images (classes * per_class, 3, h, w),
    class by class, of the first classes."""
    generator: Any = run.generator()
    classes = min(generator.num_classes, max_classes)
    labels = torch.arange(classes).repeat_interleave(per_class)
    noise = draw_noise(len(labels), generator.noise_size)
    return generator(noise, label=labels)


def draw_pictures(runs: Sequence[Run], path: str, columns: int = 4) -> None:
    """A grid for each run, side by side: rows are classes."""
    pictures = {run.name: images_of(run, columns) for run in runs}
    classes = len(next(iter(pictures.values()))) // columns
    names = _class_names(runs[0].config, classes)
    _save(class_grids(pictures, names, columns, width=1.9), path)


def _class_names(config: Config, count: int) -> List[str]:
    """Of the first classes; their numbers where the data do not tell."""
    try:
        return class_names(config)[:count]
    except PPCDError:
        return [str(index) for index in range(count)]


def draw_picture_table(
    rows: Dict[str, Dict[str, Run]], path: str, per_class: int = 2
) -> None:
    """Runs by row and column, each a small grid: its columns are classes."""
    pictures = {
        row: {
            column: images_of(run, per_class)
            .unflatten(0, (-1, per_class))
            .transpose(0, 1)
            .flatten(0, 1)
            for column, run in runs.items()
        }
        for row, runs in rows.items()
    }
    first = next(iter(next(iter(pictures.values())).values()))
    _save(picture_table(pictures, len(first) // per_class), path)


def draw_sparsity(runs: Sequence[Run], path: str) -> None:
    """How much of every mask was pruned when, a panel for each run."""
    _save(
        sparsity_panels({run.name: read_scalars(run.work_dir) for run in runs}),
        path,
    )


def draw_leakage(runs: Sequence[Run], path: str) -> None:
    """Classes asked for against classes recognised, where the runs are judged
    by a classifier of their domain."""
    metric = next(
        (m for m in runs[0].config.test_evaluator.metrics if 'classifier' in m),
        None,
    )
    if metric is None:
        return
    init_default_scope('ppcd_mmagic')  # to find the data set
    classifier: Any = build_classifier(metric.classifier, metric.checkpoint)
    matrices = {}
    for run in runs:
        images = images_of(run, 100, max_classes=classifier.num_classes)
        labels = torch.arange(classifier.num_classes).repeat_interleave(100)
        matrices[run.name] = recognise(classifier, images, labels)
    names = _class_names(runs[0].config, classifier.num_classes)
    _save(confusion_heatmaps(matrices, names), path)


def _save(figure: plt.Figure, path: str) -> None:
    with written_whole(path) as partial:
        figure.savefig(partial, format='png', dpi=130, bbox_inches='tight')
    print(f'drawn to {path}')
