"""Train, export and test many configs.

Shared by the tools that reproduce tables and figures. Whatever has finished is
kept in its work directory and not done again.
"""

import json
import os
import os.path as osp
import re
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import dataclass, field
from glob import escape, glob
from threading import Event
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import torch.nn as nn
from mmengine.config import Config
from tqdm import tqdm

from ppcd_mmagic.channels import complexity
from ppcd_mmagic.checkpoints import build_trained_generator, last_checkpoint
from ppcd_mmagic.engine import (
    StopSignals,
    config_problems,
    find_problems,
    hooks_of,
    kind_of,
    merge_options,
    settings_of,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import metrics_of
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.generators import example_inputs

PACKAGE = osp.dirname(osp.dirname(osp.abspath(__file__)))
# tools and configs lie beside the package, or in it where it was installed
HOME = next(
    (
        home
        for home in (osp.dirname(PACKAGE), osp.join(PACKAGE, '.mim'))
        if osp.isfile(osp.join(home, 'tools', 'train.py'))
    ),
    osp.dirname(PACKAGE),
)
TOOLS, CONFIGS = (osp.join(HOME, name) for name in ('tools', 'configs'))
# by data set, what the paths of the configs of PPCD-GAN begin with
STUDENTS = dict(
    digits_16='ppcd_gan/ppcd_digits_16',
    cifar10_16='ppcd_gan/ppcd_cifar10_16',
    cifar10_32='ppcd_gan/ppcd_cifar10_32',
    imagenet_128='ppcd_gan/ppcd_biggan_128',
)
# what metrics hold besides what was measured on images
COUNTS = ('parameters', 'multiply_adds')
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
        start (Run, optional): The run whose last checkpoint it starts from.
        label (dict): Whatever else a plot needs to know.
    """

    name: str
    config: Config
    seed: int
    root: str
    start: Optional['Run'] = None
    label: dict = field(default_factory=dict)

    @property
    def work_dir(self) -> str:
        name = self.name.lower().replace('*', '_star').replace('+', '_plus')
        folder = re.sub(r'[^a-z0-9.-]+', '_', name).strip('_')
        return osp.join(self.root, f'{folder}_seed{self.seed}')

    @property
    def is_masked(self) -> bool:
        kind = self.config.model.generator.type
        return 'PPRes' in kind or 'Masked' in kind

    @property
    def checkpoint(self) -> str:
        """The last one that the training wrote."""
        path = last_checkpoint(self.work_dir)
        if path is None:
            raise PPCDError(f'There is no checkpoint in {self.work_dir}.')
        return path

    @property
    def tested(self) -> Tuple[str, str]:
        """Config and checkpoint of what counts: the export of a student."""
        if self.is_masked:
            folder = osp.join(self.work_dir, 'export')
            return (
                osp.join(folder, 'config.py'),
                osp.join(folder, 'generator.pth'),
            )
        return osp.join(self.work_dir, 'config.py'), self.checkpoint

    def generator(self) -> nn.Module:
        """It, with its trained weights."""
        config, checkpoint = self.tested
        return build_trained_generator(
            Config.fromfile(config), checkpoint, self.name
        )


def read_config(name: str) -> Config:
    """One of the configs of this package, by its path in ``configs``.

    Raises:
        PPCDError: If there is none.
    """
    if not osp.isfile(osp.join(CONFIGS, name)):
        raise PPCDError(
            f'configs/{name} does not exist, which this experiment would '
            'train: take another --data, or leave that line of the table out.'
        )
    return Config.fromfile(osp.join(CONFIGS, name))


def read_lines(files: Dict[str, str], data: str) -> Dict[str, Config]:
    """Configs of the lines of a table, for a data set.

    Args:
        files (dict): Paths of configs by line, with ``{student}`` and
            ``{data}`` in place of what depends on the data set.
        data (str): One of ``STUDENTS``.
    """
    return {
        name: read_config(file.format(student=STUDENTS[data], data=data))
        for name, file in files.items()
    }


def shorten(config: Config, max_iters: Optional[int]) -> Config:
    """The config with another length of training, schedules and the window
    of the moving average scaled along."""
    config = deepcopy(config)
    if max_iters is None:
        return config
    scale = max_iters / config.train_cfg.max_iters
    config.train_cfg.max_iters = max_iters
    scheduler = config.get('param_scheduler')
    if scheduler:
        for key in {'begin', 'end'} & scheduler.keys():
            scheduler[key] = round(scheduler[key] * scale)
    average: Any = config.model.get('ema_config') or {}
    if 'momentum' in average:
        # of two iterations at least, for it must be less than 1
        average.momentum = min(average.momentum / scale, 0.5)
    if 'start_iter' in average:
        average.start_iter = round(average.start_iter * scale)
    for hook in hooks_of(config).values():
        if hook.get('begin') is not None:
            hook.begin = round(hook.begin * scale)
        if hook.get('end') is not None:
            hook.end = max(round(hook.end * scale), hook.get('begin', 0) + 1)
    return config


def pruning_hooks(config: Config) -> List[Any]:
    """Settings of the hooks that prune, as they stand in a config."""
    return [
        hook
        for hook in hooks_of(config).values()
        if kind_of(hook) == 'MaskBinarizationHook'
    ]


def set_alpha(config: Config, alpha: float) -> Config:
    """The config with another compression ratio threshold."""
    config = deepcopy(config)
    for hook in pruning_hooks(config):
        hook['alpha'] = alpha
    return config


def set_budget(config: Config, budget: dict, alpha: float) -> Config:
    """The config with a budget for the whole generator, and the largest
    fraction of a mask that may fall for it."""
    config = set_alpha(config, alpha)
    for hook in pruning_hooks(config):
        hook['budget'] = dict(budget)
    return config


def run_all(runs: Sequence[Run], jobs: int) -> Dict[str, List[Metrics]]:
    """Do all runs, and return the metrics of each name, a dict per seed.

    All are checked before the first one begins. What they need is done first:
    the classifier that judges them, and the runs that others start from. The
    first one that fails ends them all.

    Raises:
        PPCDError: If two runs are the same, a config cannot be trained, a
            folder holds a run of another config, or a run fails.
    """
    starts = {run.start.work_dir: run.start for run in runs if run.start}
    _refuse_equal_runs(runs)
    _refuse_other_runs([*starts.values(), *runs])
    _refuse_faulty_runs([*starts.values(), *runs], ('train', 'val', 'test'))
    judges = dict.fromkeys(
        filter(
            _config_of_judge,
            (path for run in runs for path in _judges(run.config)),
        )
    )
    _in_parallel(_train_judge, list(judges), 1, 'classifiers that judge')
    _in_parallel(_train, list(starts.values()), jobs, 'trainings to start from')
    results: Dict[str, List[Metrics]] = {}
    found = _in_parallel(_metrics_of, runs, jobs, 'runs')
    for run, metrics in zip(runs, found):
        results.setdefault(run.name, []).append(metrics)
    return results


def train_all(runs: Sequence[Run], jobs: int) -> None:
    """Train all runs, and export those with masks, without testing them.

    Raises:
        PPCDError: See :func:`run_all`.
    """
    _refuse_equal_runs(runs)
    _refuse_other_runs(runs)
    _refuse_faulty_runs(runs, ('train', 'val'))
    left = [run for run in runs if not _is_finished(run)]
    _in_parallel(_train_and_export, left, jobs, 'trainings')


def _is_finished(run: Run) -> bool:
    last = f'iter_{run.config.train_cfg.max_iters}.pth'
    written = last if not run.is_masked else osp.join('export', 'summary.json')
    return all(
        osp.exists(osp.join(run.work_dir, name)) for name in (last, written)
    )


def _refuse_equal_runs(runs: Sequence[Run]) -> None:
    folders = [run.work_dir for run in runs]
    equal = next(
        (
            run
            for run, folder in zip(runs, folders)
            if folders.count(folder) > 1
        ),
        None,
    )
    if equal:
        raise PPCDError(
            f'"{equal.name}" with seed {equal.seed} was asked for '
            'twice: name each seed, each alpha and each kind of masks once.'
        )


def _refuse_faulty_runs(runs: Sequence[Run], loops: Sequence[str]) -> None:
    """Before the first one begins: the last one may be days away."""
    problems: Dict[str, str] = {}
    for run in runs:
        make_folder(run.root)
        if osp.exists(osp.join(run.work_dir, 'metrics.json')):
            continue  # done
        config = _seeded(run)
        # what is missing yet, and will be trained before the runs
        if run.start:
            config.load_from = None
        for loop in loops:
            for metric in metrics_of(config.get(f'{loop}_evaluator')):
                if _config_of_judge(metric.get('checkpoint')):
                    metric['checkpoint'] = None
        for problem in config_problems(config, loops) or find_problems(
            config, loops
        ):
            problems.setdefault(problem, run.name)
    if problems:
        raise PPCDError(
            *(f'{name}: {problem}' for problem, name in problems.items())
        )


def _refuse_other_runs(runs: Sequence[Run]) -> None:
    """A table must not mix lengths or settings of different calls."""
    for run in runs:
        if not any(
            osp.exists(osp.join(run.work_dir, name))
            for name in ('last_checkpoint', 'metrics.json')
        ):
            continue  # nothing of it was trained
        path = osp.join(run.work_dir, 'config.py')
        kept = Config.fromfile(path) if osp.exists(path) else Config()
        before = trained_with(kept)
        now = trained_with(_seeded(run))
        # the folder may have been moved since
        folders = [run.work_dir, kept.get('work_dir') or run.work_dir]
        if run.start or _is_in(folders, kept.get('load_from')):
            # of another run, or of this one, resumed
            before['load_from'] = now['load_from'] = None
        other = [
            key
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        if other:
            raise PPCDError(
                f'{run.work_dir} holds a run of another config (its '
                f'{", ".join(other)} differ): name another --root, or delete '
                'it'
            )


def trained_with(config: Config) -> Dict[str, Any]:
    """What of a config decides what comes of a run: neither where it is kept
    nor when it is judged on the way."""
    found = {
        key: setting
        for key, setting in settings_of(config).items()
        if key not in ('allow_changes', 'launcher', 'resume', 'work_dir')
    }
    found['train_cfg'] = {
        key: setting
        for key, setting in found.get('train_cfg', {}).items()
        if key not in ('dynamic_intervals', 'val_begin', 'val_interval')
    }
    return found


def _is_in(folders: Sequence[str], path: Optional[str]) -> bool:
    return path is not None and osp.realpath(osp.dirname(path)) in map(
        osp.realpath, folders
    )


def _in_parallel(
    function: Callable[[Any, int, Event], Any],
    runs: Sequence[Any],
    jobs: int,
    what: str,
) -> list:
    """Results in order; the first failure, or a signal, ends all."""
    if not runs:
        return []
    stop = Event()
    with StopSignals() as signals, ThreadPoolExecutor(jobs) as pool:
        work = [pool.submit(function, run, jobs, stop) for run in runs]
        try:
            # a log gets a line a minute
            pause = 0.1 if sys.stderr.isatty() else 60
            with tqdm(
                total=len(runs), desc=what, unit='run', mininterval=pause
            ) as bar:
                while not all(done.done() for done in work):
                    found = wait(work, 0.5, FIRST_EXCEPTION).done
                    for done in found:
                        done.result()
                    bar.update(len(found) - bar.n)
                    if signals.received:
                        print(
                            'stopped: what was trained is kept, go on with '
                            'the same command',
                            file=sys.stderr,
                        )
                        raise SystemExit(128 + signals.received)
            return [done.result() for done in work]
        finally:
            stop.set()  # what runs beside a failure is saved, and ends
            for done in work:
                done.cancel()


def _judges(config: Config) -> Iterator[str]:
    """Checkpoints of the classifiers that the metrics of a config ask for."""
    for metric in metrics_of(config.get('test_evaluator')):
        if metric.get('checkpoint'):
            yield metric['checkpoint']


def _train_judge(checkpoint: str, jobs: int, stop: Event) -> None:
    folder = osp.dirname(checkpoint)
    make_folder(folder)
    _tool(
        'train.py',
        folder,
        jobs,
        stop,
        str(_config_of_judge(checkpoint)),
        '--work-dir',
        folder,
        '--resume',
    )


def _config_of_judge(checkpoint: Optional[str]) -> Optional[str]:
    """What a missing classifier is trained with, if its folder is named after
    a config."""
    if not checkpoint or osp.exists(checkpoint):
        return None
    name = osp.basename(osp.dirname(checkpoint))
    found = glob(osp.join(escape(CONFIGS), '*', f'{escape(name)}.py'))
    return found[0] if found else None


def _metrics_of(run: Run, jobs: int, stop: Event) -> Metrics:
    path = osp.join(run.work_dir, 'metrics.json')
    if not osp.exists(path):
        _train_and_export(run, jobs, stop)
        _tool(
            'test.py',
            run.work_dir,
            jobs,
            stop,
            *run.tested,
            '--out',
            path,
            '--work-dir',
            osp.join(run.work_dir, 'test'),
        )
    with open(path) as file:
        metrics = json.load(file)
    if not set(COUNTS) <= set(metrics):
        metrics.update(size_of(run))
        with written_whole(path) as partial, open(partial, 'w') as file:
            json.dump(metrics, file, indent=2)
    return metrics


def size_of(run: Run) -> Dict[str, int]:
    """Parameters, and multiply-adds of an image, of a finished run."""
    generator = run.generator()
    return complexity(generator, example_inputs(generator, batch=1))


def _train_and_export(run: Run, jobs: int, stop: Event) -> None:
    _train(run, jobs, stop)
    if run.is_masked:
        _tool(
            'export.py',
            run.work_dir,
            jobs,
            stop,
            osp.join(run.work_dir, 'config.py'),
            run.checkpoint,
            '--out-dir',
            osp.join(run.work_dir, 'export'),
        )


def _train(run: Run, jobs: int, stop: Event) -> None:
    make_folder(run.work_dir)
    config = _seeded(run)
    if run.start:
        config.load_from = run.start.checkpoint
    path = osp.join(run.work_dir, 'config.py')
    with written_whole(path) as partial, open(partial, 'w') as file:
        file.write(config.pretty_text)
    _tool(
        'train.py',
        run.work_dir,
        jobs,
        stop,
        path,
        '--work-dir',
        run.work_dir,
        '--resume',
    )


def _seeded(run: Run) -> Config:
    config = deepcopy(run.config)
    config.randomness = dict(seed=run.seed, diff_rank_seed=True)
    # the last iteration is what counts, and it is tested after the export;
    # MMEngine validates it whatever val_interval says
    config.train_cfg.val_begin = config.train_cfg.max_iters + 1
    return config


def _tool(
    name: str, folder: str, jobs: int, stop: Event, *arguments: str
) -> None:
    """Run one of the tools, its output kept in ``folder``.

    Args:
        name (str): Its file's.
        folder (str): For its output.
        jobs (int): How many share the cores.
        stop (Event): Ends it where it is set; a training is saved then.
        *arguments (str): Of its command line.

    Raises:
        PPCDError: If it fails, with its message, or is stopped.
    """
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    log = osp.join(folder, f'{osp.splitext(name)[0]}.log')
    with open(log, 'w') as file:
        process = subprocess.Popen(
            [sys.executable, osp.join(TOOLS, name), *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={'OMP_NUM_THREADS': threads, **os.environ},
        )
        while process.poll() is None and not stop.wait(0.1):
            pass
        process.terminate()
        if not process.wait():
            return
    if stop.is_set():
        raise PPCDError(
            f'{name} was stopped for {folder}: go on with the same command.'
        )
    with open(log) as file:
        lines = file.read().splitlines() or ['']
    errors = [
        line.removeprefix('error: ')
        for line in lines
        if line.startswith('error: ')
    ]
    raise PPCDError(
        f'{name} failed for {folder} (see {log}): '
        f'{"; ".join(errors or lines[-1:])}'
    )


def make_runs(lines: Dict[str, Config], args: Namespace) -> List[Run]:
    """A run for every line of the table and every seed.

    Args:
        lines (dict): Configs by line, see :func:`read_lines`.
        args (Namespace): ``seeds``, ``max_iters``, ``cfg_options`` and
            ``root``.
    """
    return [
        Run(name, changed(config, args), seed, args.root)
        for name, config in lines.items()
        for seed in args.seeds
    ]


def changed(config: Config, args: Namespace) -> Config:
    """The config with what the command line says of it."""
    config = shorten(config, args.max_iters)
    options = {
        key: value
        for key, value in args.cfg_options.items()
        # Big-GAN, SA-GAN and SN-GAN have no teacher to change
        if config.model.get('teacher') or not key.startswith('model.teacher.')
    }
    merge_options(config, options, osp.basename(config.filename or ''))
    return config
