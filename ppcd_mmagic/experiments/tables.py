"""Tables of what was run: printed, kept as JSON, and made again from that."""

import json
import math
import os.path as osp
import statistics
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from scipy.stats import ttest_rel

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import make_folder, written_whole
from .runs import CONFIGS, COUNTS, Metrics, Run, trained_with

Results = Dict[str, List[Metrics]]


def mean_and_spread(values: Sequence[float]) -> tuple:
    """Mean and sample standard deviation (0 for a single value)."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.mean(values), spread


def runs_in_words(runs: Sequence[Run]) -> str:
    """What a table says of its runs: seeds, and lengths of training.

    Example:
        >>> config = Config(dict(train_cfg=dict(max_iters=800)))
        >>> runs_in_words([Run('PPCD-GAN', config, seed, 'x') for seed in (0, 1)])
        'Mean and standard deviation over 2 seeds. 800 iterations each.'
    """
    seeds = sorted({run.seed for run in runs})
    words = (
        f'Mean and standard deviation over {len(seeds)} seeds.'
        if len(seeds) > 1
        else f'Seed {seeds[0]} alone.'
    )
    whole = {_length(run.start or run) for run in runs}
    tuned = {_length(run) for run in runs if run.start}
    words += f' {_numbers(whole)} iterations each'
    if tuned:
        words += (
            f'; those that are pruned after training {_numbers(tuned)} more, '
            'of fine-tuning'
        )
    return f'{words}.'


def own_configs(runs: Sequence[Run]) -> Dict[str, str]:
    """By line, the path in ``configs`` of the config that its runs were
    trained with. Lines of which something else was changed than the seed, and
    when they are judged, are left out."""
    found = {}
    # those of a name differ in their seeds only
    for run in {run.name: run for run in runs}.values():
        path = str(run.config.filename)
        if not osp.abspath(path).startswith(CONFIGS + osp.sep):
            continue
        if trained_with(run.config) == trained_with(Config.fromfile(path)):
            found[run.name] = osp.relpath(path, CONFIGS)
    return found


def _length(run: Run) -> int:
    return int(run.config.train_cfg.max_iters)


def _numbers(values: Iterable[int]) -> str:
    return ' or '.join(map(str, sorted(values)))


def table_of(results: Results) -> List[List[str]]:
    """Header and lines: mean and, over several seeds, spread of every
    metric."""
    keys = shared_metrics(results)
    lines = [['', *(key.split('/')[-1] for key in keys)]]
    for name, metrics in results.items():
        cells = []
        for key in keys:
            mean, spread = mean_and_spread([m[key] for m in metrics])
            if key in COUNTS:
                cells.append(f'{mean:,.0f}')
            else:
                cells.append(f'{mean:.3f}')
                if len(metrics) > 1:
                    cells[-1] += f' ± {spread:.3f}'
        lines.append([name, *cells])
    return lines


def shared_metrics(results: Results) -> List[str]:
    """The metrics that all have: older runs have fewer."""
    first, *rest = (metrics for found in results.values() for metrics in found)
    return [key for key in first if all(key in other for other in rest)]


class Difference(NamedTuple):
    """Of one metric between two lines of a table, seed by seed.

    Attributes:
        mean (float): Of the first line minus the second.
        error (float): Its standard error.
        p (float, optional): Of a paired t test; None where all differences
            are equal.
    """

    mean: float
    error: float
    p: Optional[float]

    def __str__(self) -> str:
        p = '' if self.p is None else f' (p {self.p:.2g})'
        return f'{self.mean:+.3f} ± {self.error:.3f}{p}'


def paired_difference(
    first: Sequence[float], second: Sequence[float]
) -> Difference:
    """How two lines differ in a metric.

    Args:
        first (Sequence[float]): A value for each seed, two or more.
        second (Sequence[float]): Those of the same seeds.

    Example:
        >>> print(paired_difference([1.0, 2.0, 3.5], [0.5, 1.0, 2.0]))
        +1.000 ± 0.289 (p 0.074)
    """
    mean, spread = mean_and_spread([a - b for a, b in zip(first, second)])
    error = spread / math.sqrt(len(first))
    p = float(ttest_rel(first, second).pvalue) if spread else None
    return Difference(mean, error, p)


class Table(NamedTuple):
    """What an experiment found.

    Attributes:
        title (str): Of the table.
        note (str): What is said below it.
        results (dict): By line, the metrics of each seed.
        compared (Sequence[Tuple[str, str]]): Pairs of lines whose
            differences are shown, where there are several seeds.
        configs (dict): By line, the config that it is of, see
            :func:`own_configs`.
    """

    title: str
    note: str
    results: Results
    compared: Sequence[Tuple[str, str]] = ()
    configs: Dict[str, str] = {}  # never changed

    def markdown(self) -> str:
        """The table, its note and its differences, without the title."""
        parts = [_rows(table_of(self.results)), self.note]
        differences = self._differences()
        if differences:
            parts += [
                _rows(differences),
                'Differences between runs of the same seed: mean ± standard '
                'error, and p of a paired t test.',
            ]
        return '\n\n'.join(parts)

    def _differences(self) -> List[List[str]]:
        pairs = [
            (one, other)
            for one, other in self.compared
            if {one, other} <= set(self.results) and len(self.results[one]) > 1
        ]
        if not pairs:
            return []
        keys = [
            key for key in shared_metrics(self.results) if key not in COUNTS
        ]
        return [
            ['', *(key.split('/')[-1] for key in keys)],
            *(
                [
                    f'{one} minus {other}',
                    *(
                        str(
                            paired_difference(
                                *(
                                    [m[key] for m in self.results[name]]
                                    for name in (one, other)
                                )
                            )
                        )
                        for key in keys
                    ),
                ]
                for one, other in pairs
            ),
        ]


def _rows(lines: List[List[str]]) -> str:
    """Header and lines as Markdown."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = [
        '| ' + ' | '.join(c.ljust(w) for c, w in zip(line, widths)) + ' |'
        for line in lines
    ]
    rule = '| ' + ' | '.join('-' * width for width in widths) + ' |'
    return '\n'.join([rows[0], rule, *rows[1:]])


def save_table(table: Table, root: str) -> None:
    """Print the table, and write it as Markdown and JSON."""
    text = table.markdown()
    print(f'\n{table.title}\n{text}')
    make_folder(root)
    for name, content in (
        ('table.md', f'# {table.title}\n\n{text}\n'),
        ('results.json', json.dumps(table._asdict(), indent=1)),
    ):
        with (
            written_whole(osp.join(root, name)) as path,
            open(path, 'w') as file,
        ):
            file.write(content)


def read_table(path: str) -> Table:
    """A table from the JSON that :func:`save_table` has written.

    Raises:
        PPCDError: If there is no file of that kind.
    """
    try:
        with open(path) as file:
            table = Table(**json.load(file))
        table.markdown()  # fails now where it is of something else
        return table
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PPCDError(
            f'{path} is no results.json of an experiment: {error}'
        ) from error
