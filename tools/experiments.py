"""Train, export and test many configs, and lay their metrics side by side.

Shared by the tools that reproduce tables and figures. Whatever has finished is
kept in its work directory and not done again.
"""
import argparse
import json
import os
import os.path as osp
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence

import matplotlib
from mmengine.config import Config, DictAction
from tqdm import tqdm

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

TOOLS = osp.dirname(osp.abspath(__file__))
Metrics = Dict[str, float]


@dataclass
class Run:
    """One training.

    Attributes:
        name (str): Line of the table it belongs to; runs of one name differ
            in their seeds only.
        config (Config): Its config, complete but for the seed.
        seed (int): Seed of the training.
        root (str): Folder of all runs of the experiment.
        label (dict): Whatever else a plot needs to know.
    """
    name: str
    config: Config
    seed: int
    root: str
    label: dict = field(default_factory=dict)

    @property
    def work_dir(self) -> str:
        folder = re.sub(r'[^a-z0-9.-]+', '_', self.name.lower()).strip('_')
        return osp.join(self.root, f'{folder}_seed{self.seed}')

    @property
    def is_masked(self) -> bool:
        kind = self.config.model.generator.type
        return 'PPRes' in kind or 'Masked' in kind


def add_arguments(parser: argparse.ArgumentParser, root: str) -> None:
    """Options that all experiments share."""
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='seeds of the trainings (default: 0 1 2)')
    parser.add_argument(
        '--max-iters',
        type=int,
        help='train for so many iterations instead of the config\'s')
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='trainings at a time; they share the cores (default: 1)')
    parser.add_argument(
        '--root', default=root, help='where runs and results go (default: '
        '%(default)s)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override settings of every config, as key=value; name another '
        '--root for it')


def shorten(config: Config, max_iters: Optional[int]) -> Config:
    """The config with another length of training, schedules scaled along."""
    config = deepcopy(config)
    if max_iters is None:
        return config
    scale = max_iters / config.train_cfg.max_iters
    config.train_cfg.max_iters = max_iters
    config.train_cfg.val_interval = max_iters
    scheduler = config.get('param_scheduler')
    if scheduler:
        for key in ('begin', 'end'):
            scheduler[key] = round(scheduler[key] * scale)
    for hook in config.get('custom_hooks', []):
        for key in ('begin', 'end'):
            if hook.get(key) is not None:
                hook[key] = round(hook[key] * scale)
    return config


def set_alpha(config: Config, alpha: float) -> Config:
    """The config with another compression ratio threshold."""
    config = deepcopy(config)
    for hook in config.custom_hooks:
        if 'MaskBinarizationHook' in hook['type']:
            hook['alpha'] = alpha
    return config


def run_all(runs: Sequence[Run], jobs: int) -> Dict[str, List[Metrics]]:
    """Do all runs, and return the metrics of each name, a dict per seed."""
    with ThreadPoolExecutor(jobs) as pool:
        work = pool.map(lambda run: _metrics_of(run, jobs), runs)
        try:
            done = list(tqdm(work, total=len(runs), desc='runs', unit='run'))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one failure ends them all
            raise
    results: Dict[str, List[Metrics]] = {}
    for run, metrics in zip(runs, done):
        results.setdefault(run.name, []).append(metrics)
    return results


def _metrics_of(run: Run, jobs: int) -> Metrics:
    path = osp.join(run.work_dir, 'metrics.json')
    if not osp.exists(path):
        os.makedirs(run.work_dir, exist_ok=True)
        config, checkpoint = _train(run, jobs)
        if run.is_masked:
            config, checkpoint = _export(run, config, checkpoint, jobs)
        out = osp.join(run.work_dir, 'test.json')
        _tool('test.py', run, jobs, config, checkpoint, '--out', out,
              '--work-dir', osp.join(run.work_dir, 'test'))
        with open(out) as file:
            metrics = json.load(file)
        metrics['parameters'] = _parameters(config, checkpoint)
        with open(path, 'w') as file:
            json.dump(metrics, file, indent=2)
    with open(path) as file:
        return json.load(file)


def _train(run: Run, jobs: int):
    config = deepcopy(run.config)
    config.randomness = dict(seed=run.seed, diff_rank_seed=True)
    # the last iteration is what counts, and it is tested after the export
    config.train_cfg.val_interval = config.train_cfg.max_iters + 1
    path = osp.join(run.work_dir, 'config.py')
    config.dump(path)
    _tool('train.py', run, jobs, path, '--work-dir', run.work_dir, '--resume')
    with open(osp.join(run.work_dir, 'last_checkpoint')) as file:
        return path, file.read().strip()


def _export(run: Run, config: str, checkpoint: str, jobs: int):
    folder = osp.join(run.work_dir, 'export')
    _tool('export.py', run, jobs, config, checkpoint, '--out-dir', folder)
    return osp.join(folder, 'config.py'), osp.join(folder, 'generator.pth')


def _tool(name: str, run: Run, jobs: int, *arguments: str) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    log = osp.join(run.work_dir, f'{osp.splitext(name)[0]}.log')
    with open(log, 'w') as file:
        done = subprocess.run(
            [sys.executable, osp.join(TOOLS, name), *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=threads))
    if done.returncode:
        with open(log) as file:
            end = ''.join(file.readlines()[-5:])
        raise SystemExit(f'error: {name} failed for "{run.name}", seed '
                         f'{run.seed} (see {log}):\n{end}')


def _parameters(config: str, checkpoint: str) -> int:
    from ppcd_mmagic.models import build_trained_generator
    generator = build_trained_generator(
        Config.fromfile(config), checkpoint, 'tested')
    return sum(p.numel() for p in generator.parameters())


def mean_and_spread(values: Sequence[float]) -> tuple:
    """Mean and sample standard deviation (0 for a single value)."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.
    return statistics.mean(values), spread


def table_of(results: Dict[str, List[Metrics]]) -> List[List[str]]:
    """Header and lines: mean and spread of every metric over the seeds."""
    keys = list(next(iter(results.values()))[0])
    lines = [['', *(key.split('/')[-1] for key in keys)]]
    for name, metrics in results.items():
        cells = []
        for key in keys:
            mean, spread = mean_and_spread([m[key] for m in metrics])
            cells.append(f'{mean:,.0f}' if key ==
                         'parameters' else f'{mean:.3f} ± {spread:.3f}')
        lines.append([name, *cells])
    return lines


def save_table(results: Dict[str, List[Metrics]], root: str, title: str,
               note: str) -> None:
    """Print the table, and write it as Markdown and JSON."""
    lines = table_of(results)
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = [
        '| ' + ' | '.join(c.ljust(w) for c, w in zip(line, widths)) + ' |'
        for line in lines
    ]
    rule = '| ' + ' | '.join('-' * width for width in widths) + ' |'
    text = '\n'.join([rows[0], rule, *rows[1:]])
    print(f'\n{title}\n{text}\n{note}')
    os.makedirs(root, exist_ok=True)
    with open(osp.join(root, 'table.md'), 'w') as file:
        file.write(f'# {title}\n\n{text}\n\n{note}\n')
    with open(osp.join(root, 'results.json'), 'w') as file:
        json.dump(results, file, indent=2)


def bar_chart(results: Dict[str, List[Metrics]], labels: Dict[str, str],
              path: str) -> None:
    """One panel a metric, one bar a name, error bars over the seeds.

    Args:
        results (dict): See :func:`run_all`.
        labels (dict): Metrics to draw, and how to label their axes.
        path (str): Picture to write.
    """
    figure, axes = plt.subplots(
        1, len(labels), figsize=(3.2 * len(labels), .45 * len(results) + 1.3))
    names = list(results)
    for axis, (key, label) in zip(axes, labels.items()):
        means, spreads = zip(*(mean_and_spread([m[key] for m in results[n]])
                               for n in names))
        axis.barh(names, means, xerr=spreads, capsize=3, color='#4477aa')
        axis.set_xlabel(label)
        axis.invert_yaxis()
        if axis is not axes[0]:
            axis.set_yticklabels([])
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    print(f'drawn to {path}')


def line_chart(points: Dict[str, Dict[float, List[Metrics]]],
               labels: Dict[str, str], xlabel: str, path: str) -> None:
    """One panel a metric, one line a series, error bars over the seeds."""
    figure, axes = plt.subplots(
        1, len(labels), figsize=(3.4 * len(labels), 3.))
    for axis, (key, label) in zip(axes, labels.items()):
        for name, series in points.items():
            xs = sorted(series)
            means, spreads = zip(*(mean_and_spread([m[key] for m in series[x]])
                                   for x in xs))
            axis.errorbar(xs, means, spreads, marker='o', capsize=3, label=name)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(label)
        axis.grid(alpha=.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    print(f'drawn to {path}')


DOMAIN_LABELS = {
    'parameters': 'parameters',
    'domain/accuracy': 'class accuracy (fraction)',
    'domain/frechet': 'Fréchet distance (domain)',
    'domain/variety': 'variety (1 = real)',
}


def labels_for(results: Dict[str, List[Metrics]]) -> Dict[str, str]:
    """The metrics worth drawing: the domain's, or else all there are."""
    keys = next(iter(results.values()))[0]
    if 'domain/frechet' in keys:
        return DOMAIN_LABELS
    return {key: key for key in keys}


def make_runs(lines: Dict[str, Config],
              args: argparse.Namespace) -> List[Run]:
    """A run for every line of the table and every seed."""
    return [
        Run(name, changed(config, args), seed, args.root)
        for name, config in lines.items() for seed in args.seeds
    ]


def changed(config: Config, args: argparse.Namespace) -> Config:
    """The config with what the command line says of it."""
    config = shorten(config, args.max_iters)
    config.merge_from_dict(args.cfg_options)
    return config
