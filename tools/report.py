"""Compare generators side by side: pictures, figures, curves, one HTML file."""

import argparse
import json
import os.path as osp
import statistics
from typing import Dict, List, NamedTuple, Optional

import torch
import torch.nn as nn
from command_line import positive, read_config_file, run, seed
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.benchmark import Timer
from tqdm import tqdm

import ppcd_mmagic  # noqa: F401, registers the parts
from ppcd_mmagic.channels import complexity
from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import (
    LabelledImages,
    build_classifier,
    class_distances,
    domain_quality,
    kept_statistics,
    recognise,
)
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.generators import draw_noise, example_inputs
from ppcd_mmagic.visualization import (
    HtmlReport,
    class_grids,
    confusion_heatmaps,
    curves,
    read_scalars,
)


class Entry(NamedTuple):
    """A generator to compare."""

    name: str
    config: Config
    generator: nn.Module


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Compare generators side by side and write one '
        'self-contained HTML file, with its figures as JSON beside it.'
    )
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a generator, trained or exported; may be given several times',
    )
    parser.add_argument(
        '--classifier',
        nargs=2,
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='the classifier that judges the images',
    )
    parser.add_argument(
        '--curves',
        metavar='WORK_DIR',
        help='draw losses and sparsity of the training in this directory',
    )
    parser.add_argument(
        '--export',
        metavar='DIR',
        help='report the summary that tools/export.py wrote there',
    )
    parser.add_argument(
        '--images-per-class',
        type=positive,
        default=200,
        help='images generated of each class for the figures (default: 200)',
    )
    parser.add_argument(
        '--columns',
        type=positive,
        default=12,
        help='images of each class in the picture (default: 12)',
    )
    parser.add_argument(
        '--batch-size',
        type=positive,
        default=16,
        help='batch size for the latency (default: 16)',
    )
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument(
        '--out',
        type=page,
        default='work_dirs/report/report.html',
        help='picture and figures go beside it, as PNG and JSON (default: '
        '%(default)s)',
    )
    return parser.parse_args()


def page(text: str) -> str:
    """Type of the path of the report."""
    if not text.lower().endswith(('.html', '.htm')):
        raise argparse.ArgumentTypeError(f'"{text}" does not end in .html')
    return text


def load_entries(models: List[List[str]]) -> List[Entry]:
    """Raises:
    PPCDError: If a name is given twice, or the generators do not take
        the same noise and classes.
    """
    entries = []
    for name, path, checkpoint in models:
        config = read_config_file(path)
        generator = build_trained_generator(config, checkpoint, name)
        entries.append(Entry(name, config, generator))
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise PPCDError(f'--model: the names {", ".join(names)} must differ.')
    inputs = {
        (entry.generator.noise_size, entry.generator.num_classes)
        for entry in entries
    }
    if len(inputs) > 1:
        raise PPCDError(
            '--model: all must take the same noise and classes, '
            'but (noise_size, num_classes) are '
            f'{", ".join(map(str, sorted(inputs)))}.'
        )
    return entries


@torch.no_grad()
def generate(
    generator: nn.Module, noise: torch.Tensor, labels: torch.Tensor
) -> LabelledImages:
    images = [
        generator(z, label=y)
        for z, y in zip(noise.split(250), labels.split(250))
    ]
    return LabelledImages(torch.cat(images), labels)


@torch.no_grad()
def latencies(
    entries: List[Entry], batch_size: int, rounds: int = 5
) -> Dict[str, float]:
    """Milliseconds a batch. The models take turns, so that whatever else the
    machine does meets them alike."""
    timers = {}
    for name, _, generator in entries:
        noise = torch.randn(batch_size, generator.noise_size)
        label = torch.arange(batch_size) % generator.num_classes
        timers[name] = Timer(
            'generator(noise, label=label)',
            globals=dict(generator=generator, noise=noise, label=label),
            num_threads=torch.get_num_threads(),
        )
    times = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.blocked_autorange(min_run_time=0.2).median)
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}


def measure(args: argparse.Namespace, entries: List[Entry]) -> dict:
    """All figures and the images drawn from."""
    # what an exported config has as well
    dataloader = Runner.build_dataloader(entries[0].config.test_dataloader)
    classifier_config, checkpoint = args.classifier
    classifier = build_classifier(
        read_config_file(classifier_config).model, checkpoint
    )
    real = kept_statistics(dataloader, classifier)
    generator = entries[0].generator
    labels = torch.arange(generator.num_classes).repeat_interleave(
        args.images_per_class
    )
    noise = draw_noise(len(labels), generator.noise_size, args.seed)
    latency = latencies(entries, args.batch_size)
    rows, images = {}, {}
    for entry in tqdm(entries, desc='judging', unit='model'):
        fake = generate(entry.generator, noise, labels)
        images[entry.name] = fake
        rows[entry.name] = dict(
            **complexity(
                entry.generator, example_inputs(entry.generator, batch=1)
            ),
            latency_ms=latency[entry.name],
            **domain_quality(fake, real, classifier),
            kid_of_classes=class_distances(fake, real, classifier),
        )
    classes = dataloader.dataset.metainfo['classes']
    return dict(
        rows=rows,
        images=images,
        classes=classes,
        classifier=classifier,
        classifier_accuracy=real.accuracy,
    )


HEADER = (
    'model',
    'parameters',
    'multiply-adds',
    'latency',
    'class accuracy',
    'variety',
    'Fréchet (domain)',
    'KID (domain)',
)
# so many classes are named, those drawn worst
FARTHEST = 10


def table(rows: dict) -> List[List[str]]:
    """Lines of the comparison; ratios are to the first model."""
    first = next(iter(rows.values()))

    def ratio(row: dict, key: str, text: str) -> str:
        return f'{text} ({first[key] / row[key]:.2f}x)'

    return [
        [
            name,
            ratio(row, 'parameters', f'{row["parameters"]:,}'),
            ratio(row, 'multiply_adds', f'{row["multiply_adds"] / 1e6:.2f} M'),
            ratio(row, 'latency_ms', f'{row["latency_ms"]:.1f} ms'),
            f'{100 * row["accuracy"]:.1f} %',
            f'{row["variety"]:.2f}',
            f'{row["frechet"]:.2f}',
            f'{row["kid"]:.3f}',
        ]
        for name, row in rows.items()
    ]


def print_table(rows: List[List[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
    for line in (HEADER, *rows):
        print('  '.join(cell.ljust(w) for cell, w in zip(line, widths)))


class Extras(NamedTuple):
    """What is shown beside the figures, as far as it was asked for.

    Attributes:
        summary (dict, optional): Of an export.
        scalars (dict, optional): Of a training, by name.
    """

    summary: Optional[dict]
    scalars: Optional[dict]


def read_extras(args: argparse.Namespace) -> Extras:
    """Raises:
    PPCDError: If a folder does not hold what it is named for.
    """
    summary = scalars = None
    if args.export:
        try:
            with open(osp.join(args.export, 'summary.json')) as file:
                summary = json.load(file)
        except (OSError, ValueError) as error:
            raise PPCDError(
                f'--export: no summary.json can be read in {args.export} '
                f'({error}): name the folder that tools/export.py wrote to.'
            ) from error
    if args.curves:
        scalars = read_scalars(args.curves)
        if not losses_of(scalars):
            raise PPCDError(
                f'--curves: there is no log of losses in {args.curves}: name '
                'the work directory of a training.'
            )
    return Extras(summary, scalars)


def write_report(args: argparse.Namespace, found: dict, extras: Extras) -> None:
    report = HtmlReport('PPCD-GAN: ' + ', '.join(found['rows']))
    per_class = args.images_per_class
    pictures = {
        name: torch.cat(
            [chunk[: args.columns] for chunk in fake.images.split(per_class)]
        )
        for name, fake in found['images'].items()
    }
    grids = class_grids(pictures, found['classes'], args.columns)
    report.figure(
        grids,
        'Rows are the classes asked for; each column of a '
        'row is the same noise in every model.',
    )
    with written_whole(osp.splitext(args.out)[0] + '.png') as path:
        grids.savefig(path, format='png', dpi=110, bbox_inches='tight')
    report.heading('Figures')
    report.table(HEADER, table(found['rows']))
    report.text(
        f'Ratios are to the first model, larger is better. Latency: batch of '
        f'{args.batch_size}, {torch.get_num_threads()} threads, median of '
        'rounds in which the models take turns. Accuracy: images recognised '
        'as the class asked for, by a classifier that recognises '
        f'{100 * found["classifier_accuracy"]:.1f} % of the real images. '
        'Variety: mean pairwise pixel distance within a class over that of '
        'the real images. Fréchet distance in the feature space of the same '
        "classifier: not Inception's FID. KID: the kernel distance in the "
        'same space, which does not depend on the number of images.'
    )
    if extras.summary:
        write_export(report, extras.summary)
    if extras.scalars:
        write_curves(report, extras.scalars)
    write_classes(report, found)
    write_leakage(report, found)
    with written_whole(args.out) as path:
        report.save(path)


def write_export(report: HtmlReport, summary: dict) -> None:
    report.heading('Export')
    report.text(
        f'Masked student and export differ by at most '
        f'{summary["max_difference"]:.2g} on {summary["classes_compared"]} '
        f'classes (allowed: 1e-5). Parameters '
        f'{summary["before"]["parameters"]:,} before and '
        f'{summary["after"]["parameters"]:,} after, multiply-adds '
        f'{summary["before"]["multiply_adds"]:,} and '
        f'{summary["after"]["multiply_adds"]:,}.'
    )


def losses_of(series: dict) -> Dict[str, str]:
    """Names of those that can be drawn."""
    return {
        name: name
        for name in sorted(series)
        if name.startswith('loss_') and len(series[name]) > 1
    }


def write_curves(report: HtmlReport, series: dict) -> None:
    report.heading('Training')
    report.figure(
        curves(series, losses_of(series), 'loss (weighted)'),
        'Losses of the student.',
    )
    masks = {
        name: name.removeprefix('sparsity/')
        for name in series
        if name.startswith('sparsity/')
    }
    if masks:
        report.figure(
            curves(series, masks, 'pruned channels (fraction)', stepwise=True),
            'Sparsity of every mask.',
        )


def write_classes(report: HtmlReport, found: dict) -> None:
    """Which classes the last model draws worst."""
    distances = {
        name: row['kid_of_classes'] for name, row in found['rows'].items()
    }
    last = list(distances.values())[-1]
    worst = sorted(last, key=last.__getitem__, reverse=True)[:FARTHEST]
    report.heading('Classes')
    report.text(
        f'KID (domain) of single classes, the {len(worst)} of {len(last)} '
        'first that the last model draws worst. Of few images it scatters '
        'about the truth, also below zero.'
    )
    report.table(
        ('class', *distances),
        [
            [
                str(found['classes'][label]),
                *(f'{of_model[label]:.3f}' for of_model in distances.values()),
            ]
            for label in worst
        ],
    )


def write_leakage(report: HtmlReport, found: dict) -> None:
    report.heading('Class leakage')
    matrices = {
        name: recognise(found['classifier'], fake.images, fake.labels)
        for name, fake in found['images'].items()
    }
    report.figure(
        confusion_heatmaps(matrices, found['classes']),
        'Classes asked for and recognised.',
    )


def main() -> None:
    args = parse_args()
    init_default_scope('ppcd_mmagic')
    # before minutes are spent
    make_folder(osp.dirname(args.out))
    extras = read_extras(args)
    found = measure(args, load_entries(args.model))
    with (
        written_whole(osp.splitext(args.out)[0] + '.json') as path,
        open(path, 'w') as file,
    ):
        json.dump(found['rows'], file, indent=2)
    write_report(args, found, extras)
    print_table(table(found['rows']))
    print(f'written to {args.out}')


if __name__ == '__main__':
    run(main)
