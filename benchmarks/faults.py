"""Try bad inputs and accidents of every kind: the table of docs/reliability.md.

    python benchmarks/faults.py            # a quarter of an hour
    python benchmarks/faults.py --short 2  # two of each kind

What has been tried is kept, and not tried again until the package changes.
"""

import argparse
import hashlib
import json
import os
import os.path as osp
import re
import sys
import time
from glob import glob
from typing import Dict, Iterable, List

import torch
from accidents import ACCIDENTS
from bad_inputs import INPUTS
from stage import Stage
from tqdm import tqdm
from trials import BAD, GOOD, ROOT, Outcome, Trial, play

PAGE = osp.join(ROOT, 'docs', 'reliability.md')
HEAD = ('kind', 'tried', *GOOD, *BAD)


def version() -> str:
    """A hash of what is tried, and of what tries it."""
    digest = hashlib.sha1()
    for part in ('ppcd_mmagic', 'tools', 'configs', 'benchmarks'):
        for path in sorted(glob(f'{ROOT}/{part}/**/*.py', recursive=True)):
            with open(path, 'rb') as file:
                digest.update(file.read())
    return digest.hexdigest()[:10]


def known(path: str) -> Dict[str, dict]:
    if not osp.exists(path):
        return {}
    with open(path) as file:
        return {found['name']: found for found in map(json.loads, file)}


def chosen(trials: Iterable[Trial], args: argparse.Namespace) -> List[Trial]:
    """Those asked for; of each kind evenly spread ones if few are."""
    found: Dict[str, List[Trial]] = {}
    for trial in trials:
        if re.search(args.only, f'{trial.kind}: {trial.name}'):
            found.setdefault(trial.kind, []).append(trial)
    if args.short:
        found = {
            kind: of_kind[:: max(1, len(of_kind) // args.short)][: args.short]
            for kind, of_kind in found.items()
        }
    return [trial for of_kind in found.values() for trial in of_kind]


def try_all(trials: List[Trial], folder: str, path: str, jobs: int) -> None:
    """Try what is not known yet, results a line each in a file.

    Each process has its share; results are appended as they come.
    """
    before = known(path)
    left = [trial for trial in trials if trial.name not in before]
    workers = []
    for share in range(jobs):
        process = os.fork()
        if not process:
            _work(left[share::jobs], osp.join(folder, f'trial_{share}'), path)
        workers.append(process)
    # after they were forked: theirs are bars of their own
    bar = tqdm(
        total=len(trials),
        initial=len(trials) - len(left),
        unit='trial',
        desc='trying',
    )
    while workers:
        for process in list(workers):
            if os.waitpid(process, os.WNOHANG)[0]:
                workers.remove(process)
        bar.update(len(known(path).keys() & {t.name for t in trials}) - bar.n)
        bar.refresh()
        time.sleep(0.5 if workers else 0)
    bar.close()


def _work(trials: List[Trial], folder: str, path: str) -> None:
    """Never returns."""
    code = 1
    try:
        for trial in trials:
            outcome: Outcome = play(trial, folder)
            line = json.dumps(
                dict(
                    kind=trial.kind,
                    name=trial.name,
                    verdict=outcome.verdict,
                    why=outcome.why,
                )
            )
            with open(path, 'a') as file:
                file.write(line + '\n')
        code = 0
    finally:
        os._exit(code)


def table(results: List[dict]) -> str:
    counts: Dict[str, Dict[str, int]] = {}
    for found in results:
        row = counts.setdefault(found['kind'], dict.fromkeys(HEAD[1:], 0))
        row['tried'] += 1
        row[found['verdict']] += 1
    total = {key: sum(row[key] for row in counts.values()) for key in HEAD[1:]}
    rows = [
        HEAD,
        ['---', *['---:'] * len(HEAD[1:])],
        *([kind, *map(str, row.values())] for kind, row in counts.items()),
        ['together', *map(str, total.values())],
    ]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def write_page(text: str) -> None:
    with open(PAGE) as file:
        page = file.read()
    page = re.sub(
        r'(<!-- table -->\n).*?(\n<!-- end -->)',
        lambda found: found[1] + text + found[2],
        page,
        flags=re.S,
    )
    with open(PAGE, 'w') as file:
        file.write(page)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--root',
        default='work_dirs/faults',
        help='where it is tried (default: %(default)s)',
    )
    parser.add_argument(
        '--short', type=int, metavar='NUMBER', help='try so many of each kind'
    )
    parser.add_argument(
        '--only',
        default='',
        metavar='REGEX',
        help='try those whose "kind: name" has this',
    )
    parser.add_argument(
        '--jobs', type=int, default=2, help='trials at a time (default: 2)'
    )
    parser.add_argument(
        '--list', action='store_true', help='name them, and try none'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)  # the same sums in the same order
    folder = osp.abspath(osp.join(args.root, version()))
    stage = Stage(osp.join(folder, 'stage'))
    stage.make()
    trials = chosen(
        (trial for part in (*INPUTS, *ACCIDENTS) for trial in part(stage)), args
    )
    names = [trial.name for trial in trials]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise RuntimeError(f'trials of one name: {sorted(twice)[:5]}')
    if args.list:
        print('\n'.join(f'{trial.kind}: {trial.name}' for trial in trials))
        return
    path = osp.join(folder, 'results.jsonl')
    try_all(trials, folder, path, args.jobs)
    found = known(path)
    results = [found[name] for name in names if name in found]
    bad = [row for row in results if row['verdict'] in BAD]
    for row in bad:
        print(
            f'{row["verdict"]}: {row["kind"]}: {row["name"]}: '
            f'{row["why"][:300]}'
        )
    print(table(results))
    if not (args.short or args.only):
        write_page(table(results))
    sys.exit(bool(bad) or len(results) < len(trials))


if __name__ == '__main__':
    main()
