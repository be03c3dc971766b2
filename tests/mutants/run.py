"""Which small wrong changes of the package do its tests notice?

    make mutants                  # all modules
    make mutants MODULE=losses    # one
    make mutants SAMPLE=1000      # of a module's mutants at most so many

Each mutant is run, in a copy of the repository, against the tests of its
module that are not slow, up to the first that fails. Results are kept in
``work_dirs/mutants``: a second run repeats only what may have changed, that is
the mutants of a file that was edited, those whose test was, and, if any test
of the module was, those that nothing has noticed. The table in
``docs/tests.md`` is written anew after each module.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from mutants.operators import Mutant, mutants
from mutants.table import write_table
from mutants.trial import ROOT, Known, Trial, copy_repository, rehearse

PACKAGE = 'ppcd_mmagic'
RESULTS = ROOT / 'work_dirs' / 'mutants'
# the tests of which channels are which
WHICH = (
    'channels_answers channels_attacks channels_functions '
    'channels_numbers channels_toys'
)
# the sources of each module, and the tests that are held to know them
PARTS = dict(
    losses={'models/losses/*': 'image_distillation losses ppcd_gan'},
    models={
        'models/*': 'augmentation chunked_attention domain_classifier '
        'grid_sample image_distillation masks ppcd_gan pruned_generator '
        'teacher upsampling_conv'
    },
    checkpoints={
        'checkpoints': 'checkpoints resumption teacher',
        'conversion': 'conversion teacher',
    },
    hooks={
        'engine/hooks/extra_losses_hook': 'extra_losses',
        'engine/hooks/finite_guard_hook': 'finite_guard',
        'engine/hooks/iter_seed_hook': 'hooks',
        'engine/hooks/mask_binarization_hook': 'hooks pruning_plan',
        'engine/hooks/once_for_all_hook': 'hooks',
        'engine/hooks/pruning_plan': 'pruning_plan',
        'engine/hooks/safe_checkpoint_hook': 'resumption stop_signals',
        'engine/hooks/short_history_hook': 'hooks',
        'engine/hooks/shrink_hook': 'hooks shrinking',
        'engine/hooks/stop_signal_hook': 'stop_signals',
    },
    evaluation={'evaluation/*': 'metrics real_pictures'},
    export={
        'export/description': 'formats several_generators',
        'export/exporter': 'export several_generators',
        'export/folding': 'folding',
        'export/formats': 'formats several_generators',
        'export/merging': 'upsampling_conv',
        'export/nodes': 'folding upsampling_conv',
        'export/writing': 'export_folder',
    },
    channels={
        'channels/__init__': 'channels_verification',
        'channels/analysis': WHICH,
        'channels/cost': 'complexity pruning_plan',
        'channels/computed_weights': 'channels_toys channels_training',
        'channels/groups': 'pruning_plan',
        'channels/hooks': 'channels_answers channels_toys',
        'channels/linking': WHICH,
        'channels/masks': 'channels_answers channels_toys channels_training '
        'masks',
        'channels/recording': WHICH,
        'channels/rules': f'{WHICH} channels_training',
        'channels/shrinking': 'channels_numbers channels_training',
        'channels/speedup': 'channels_functions channels_toys '
        'channels_verification',
        'channels/verification': 'channels_verification',
        'channels/widths': 'channels_numbers channels_training',
    },
)
MODULES = {
    name: [
        (
            f'{PACKAGE}/{sources}.py',
            [f'tests/test_{part}.py' for part in tests.split()],
        )
        for sources, tests in parts.items()
    ]
    for name, parts in PARTS.items()
}


def digest(paths: List[Path]) -> str:
    texts = hashlib.sha256()
    for path in paths:
        texts.update(path.read_bytes() + b'\0')
    return texts.hexdigest()[:16]


class Results:
    """What noticed each mutant of a module (None: nothing), kept in a file
    with what it depends on: the mutated file, the helpers of tests, and the
    file with the test that noticed it, or else all the tests."""

    def __init__(self, module: str, base: Path, tests_of: Dict[str, List[str]]):
        self.path = RESULTS / f'{module}.json'
        self.entries: Dict[str, dict] = {}
        if self.path.exists():
            self.entries = json.loads(self.path.read_text())
        helpers = [
            path
            for path in sorted((base / 'tests').glob('*.py'))
            if not path.name.startswith('test_')
        ]
        self._base, self._tests_of, self._helpers = base, tests_of, helpers
        self._digests: Dict[tuple, str] = {}

    def valid_for(self, mutant: Mutant) -> bool:
        entry = self.entries.get(mutant.key)
        return entry is not None and entry['of'] == self._state(
            mutant, entry['by']
        )

    def by(self, mutant: Mutant) -> Optional[str]:
        return self.entries.get(mutant.key, dict(by=None))['by']

    def keep(self, mutant: Mutant, by: Optional[str]) -> None:
        self.entries[mutant.key] = dict(by=by, of=self._state(mutant, by))
        self.path.write_text(json.dumps(self.entries, indent=1))

    def _state(self, mutant: Mutant, by: Optional[str]) -> str:
        test = (by or '').partition('::')[0]
        tests = self._tests_of[mutant.path]
        tests = [test] if test in tests else tests
        key = (mutant.path, *tests)
        if key not in self._digests:
            self._digests[key] = digest(
                [*(self._base / name for name in key), *self._helpers]
            )
        return self._digests[key]


def sample(found: List[Mutant], size: int) -> List[Mutant]:
    """The same ones at each call, those of a smaller sample among them."""
    drawn = sorted(
        (hashlib.sha256(mutant.key.encode()).digest(), mutant.key)
        for mutant in found
    )[:size]
    keys = {key for _, key in drawn}
    return [mutant for mutant in found if mutant.key in keys]


def trials(
    todo: List[Mutant],
    results: Results,
    trees: List[Path],
    tests: List[str],
    known: Known,
) -> Iterator[Tuple[Mutant, Optional[str]]]:
    """Each mutant and what noticed it, one at a time in each tree."""
    todo, running, free = todo[::-1], [], list(trees)
    last = None  # what has noticed one often notices the next
    try:
        while todo or running:
            while todo and free:
                mutant = todo.pop()
                trial = Trial(
                    free.pop(),
                    tests,
                    known,
                    mutant.path,
                    mutant.source,
                    results.by(mutant) or last,
                )
                running.append((mutant, trial))
            time.sleep(0.02)
            for mutant, trial in [r for r in running if r[1].ended()]:
                running.remove((mutant, trial))
                free.append(trial.tree)
                result = trial.result()
                noticed_by = None if result['passed'] else result['failed']
                if known.seconds.get(noticed_by, 1) < 0.5:
                    last = noticed_by
                yield mutant, noticed_by
    finally:
        for _, trial in running:
            trial.result()


def run_module(
    module: str, size: int, trees: List[Path], fixtures: Dict
) -> None:
    # of the copy: the repository may be edited meanwhile
    base = trees[0]
    tests_of = {
        str(path.relative_to(base)): tests
        for sources, tests in MODULES[module]
        for path in sorted(base.glob(sources))
    }
    results = Results(module, base, tests_of)
    every = [
        mutant
        for name in sorted(tests_of)
        for mutant in mutants(name, (base / name).read_text())
    ]
    found = sample(every, size)
    todo = [mutant for mutant in found if not results.valid_for(mutant)]
    print(
        f'{module}: {len(every)} mutants, {len(found)} drawn, {len(todo)} of '
        'them to be run',
        flush=True,
    )
    for tests in dict.fromkeys(map(tuple, tests_of.values())):
        run_part(
            [m for m in todo if tests_of[m.path] == list(tests)],
            results,
            trees,
            list(tests),
            fixtures,
        )
    write_table(
        module, len(every), {mutant.key: results.by(mutant) for mutant in found}
    )


def run_part(
    todo: List[Mutant],
    results: Results,
    trees: List[Path],
    tests: List[str],
    fixtures: Dict,
) -> None:
    """Run the mutants of those sources that the same tests know."""
    if not todo:
        return
    known = rehearse(trees[0], tests, fixtures)
    fixtures.update(known.fixtures)
    start = time.monotonic()
    for n, (mutant, by) in enumerate(
        trials(todo, results, trees, tests, known), 1
    ):
        results.keep(mutant, by)
        if by is None:
            print(f'  not noticed: {mutant.key}', flush=True)
        if n % 25 == 0 or n == len(todo):
            print(
                f'  {n} of {len(todo)}, {time.monotonic() - start:.0f} s',
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'modules',
        nargs='*',
        default=list(MODULES),
        help=f'of {", ".join(MODULES)} (default: all)',
    )
    parser.add_argument(
        '--sample',
        type=int,
        default=300,
        help='run so many of a module at most (default: 300)',
    )
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    args = parser.parse_args()
    unknown = set(args.modules) - set(MODULES)
    if unknown:
        parser.error(
            f'no module {", ".join(sorted(unknown))}: choose from '
            f'{", ".join(MODULES)}'
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f'Another run is at work in {RESULTS}: wait for it.')
        run(args)


def run(args: argparse.Namespace) -> None:
    trees = [copy_repository(RESULTS / f'tree_{i}') for i in range(args.jobs)]
    fixtures = {}
    for module in args.modules:
        run_module(module, args.sample, trees, fixtures)


if __name__ == '__main__':
    main()
