"""Put what docs/results holds wherever it is shown; `make tables` runs it.

- Pages of docs/: whole tables, between `<!-- results/NAME.json -->` and
  `<!-- end -->`.
- README of a folder of configs/: the lines of all tables that are of a config
  in it, between `<!-- results -->` and `<!-- end -->`.
- Its metafile: what the first of these lines says of each config.
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import yaml
from tables import filled
from tables import table as markdown

from ppcd_mmagic.experiments import (
    Metrics,
    Table,
    mean_and_spread,
    read_table,
    shared_metrics,
    table_of,
)
from ppcd_mmagic.experiments.runs import COUNTS

ROOT = Path(__file__).resolve().parent.parent
DOCS, CONFIGS = ROOT / 'docs', ROOT / 'configs'
SHOWN = ('accuracy', 'variety', 'frechet', 'kid', 'parameters', 'multiply_adds')


class Line(NamedTuple):
    """Of a table.

    Attributes:
        config (str): Its path in configs/.
        table (Table): Which one.
        runs (list): Metrics of each seed.
    """

    config: str
    table: Table
    runs: List[Metrics]


def lines(folder: str) -> List[Line]:
    """Those of the configs in a folder, by config, from tables of many configs
    to those of few; runs that two tables share count in that with more of
    them, or in the first."""
    tables = sorted(
        map(read_table, sorted(map(str, (DOCS / 'results').glob('*.json')))),
        key=lambda table: -len(table.configs),
    )
    found = [
        Line(path, table, table.results[name])
        for table in tables
        for name, path in table.configs.items()
        if Path(path).parent.name == folder
    ]
    # the first of equally many comes first here, too
    found.sort(key=lambda line: -len(line.runs))
    left: List[Line] = []
    for line in found:
        if not any(all(r in other.runs for r in line.runs) for other in left):
            left.append(line)
    order = [id(table) for table in tables]
    return sorted(
        left, key=lambda line: (line.config, order.index(id(line.table)))
    )


def with_results(page: str) -> str:
    """A page with its tables as they are in docs/results."""
    for name in re.findall(r'<!-- (results/[\w.-]+\.json) -->', page):
        text = read_table(str(DOCS / name)).markdown()
        page = filled(page, name, f'\n{text}\n')
    return page


def with_lines(page: str, folder: str) -> str:
    """The README of a folder of configs with what was found for them."""
    if '<!-- results -->' not in page:
        return page
    rows = [['config', *SHOWN, 'seeds', 'table']]
    for line in lines(folder):
        # of each metric the last part of its name, as in the tables
        head, cells = table_of({'': line.runs})
        by_name = dict(zip(head, cells))
        rows.append(
            [
                f'`{Path(line.config).name}`',
                *(by_name.get(name, '') for name in SHOWN),
                str(len(line.runs)),
                line.table.title,
            ]
        )
    return filled(page, 'results', f'\n{markdown(rows)}\n')


def with_metrics(metafile: str, folder: str) -> str:
    """A metafile with what was found for its configs."""
    first: Dict[str, List[Metrics]] = {}
    for line in lines(folder):
        first.setdefault(f'configs/{line.config}', line.runs)
    content = yaml.safe_load(metafile)
    for model in content['Models']:
        runs = first.get(model['Config'])
        model['Results'][0]['Metrics'] = means(runs) if runs else {}
    if content == yaml.safe_load(metafile):
        return metafile  # with its comments
    return str(yaml.safe_dump(content, width=1000))


def means(runs: List[Metrics]) -> Metrics:
    found = {
        key: mean_and_spread([run[key] for run in runs])[0]
        for key in shared_metrics({'': runs})
    }
    return {
        key.split('/')[-1]: round(mean) if key in COUNTS else round(mean, 4)
        for key, mean in found.items()
    }


def pages() -> Iterator[Tuple[Path, str]]:
    """All that is filled, with what it should hold."""
    for path in DOCS.glob('*.md'):
        yield path, with_results(path.read_text())
    for path in CONFIGS.glob('*/README.md'):
        yield path, with_lines(path.read_text(), path.parent.name)
    for path in CONFIGS.glob('*/metafile.yml'):
        yield path, with_metrics(path.read_text(), path.parent.name)


if __name__ == '__main__':
    for path, text in pages():
        path.write_text(text)
