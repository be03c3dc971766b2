"""A mutant's tests, run in a fork of a process that has imported the rest."""

import ast
import compileall
import gc
import importlib
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from py_compile import PycInvalidationMode
from subprocess import Popen
from types import CodeType, FrameType
from typing import Dict, Iterator, List, Optional
from zlib import crc32

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[2]
# what takes long is made by the unchanged package, once
KEPT_FIXTURES = ('trained_student',)
TOOL_FAILED = 99
GIB = 2**30
# what waits for so many seconds on end, and not for a processor, hangs
HANGS = 60


@dataclass
class Known:
    """What is known from the unchanged tests.

    ``called`` has by test the functions of the package that ran, as (file,
    first line); those without a test ran before them. None: not looked at.
    """

    seconds: Dict[str, float] = field(default_factory=dict)  # of each test
    called: Optional[Dict[str, List[list]]] = None
    fixtures: Dict[str, str] = field(default_factory=dict)  # pickled
    cpu_limit: int = 3600  # in seconds, which no other process can use up


class Calls:
    """Which functions of the package each test runs.

    What a fixture of several tests runs counts for all of them; and tests of
    a file with the same first parameter count as one, since they may keep
    for each other what they made of it.
    """

    def __init__(self, package: Path) -> None:
        self.package = f'{package}/'
        self.by: Dict[str, Dict[int, CodeType]] = {'': {}}
        self.fixtures: Dict[str, Dict[int, CodeType]] = {}
        self.uses: Dict[str, List[str]] = {}
        self.present = self.by['']
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _) -> None:
        if event == 'call':
            self.present[id(frame.f_code)] = frame.f_code

    def begin(self, test: str, fixtures: List[str]) -> None:
        self.uses[test] = fixtures
        self.present = self.by.setdefault(self._unit(test), {})

    @contextmanager
    def of_fixture(self, name: str) -> Iterator[None]:
        before = self.present
        self.present = self.fixtures.setdefault(name, {})
        try:
            yield
        finally:
            self.present = before

    @staticmethod
    def _unit(test: str) -> str:
        name, _, parameters = test.partition('[')
        first = re.split(r'[-\]]', parameters)[0]
        return f'{name.partition("::")[0]}[{first}' if parameters else name

    def called(self) -> Dict[str, List[list]]:
        """By test; '' has what ran before them. A process of its own that a
        test starts runs nobody knows what: None."""
        sys.setprofile(None)
        found = {'': self._places([self.by['']])}
        for test, fixtures in self.uses.items():
            found[test] = self._places(
                [
                    self.by[self._unit(test)],
                    *(self.fixtures[f] for f in fixtures if f in self.fixtures),
                ]
            )
        return found

    def _places(self, parts: List[dict]) -> Optional[List[list]]:
        codes = [code for part in parts for code in part.values()]
        if any(code is Popen.__init__.__code__ for code in codes):
            return None
        return sorted(
            {
                (code.co_filename[len(self.package) :], code.co_firstlineno)
                for code in codes
                if code.co_name != '<module>'
                and code.co_filename.startswith(self.package)
            }
        )


class Plan:
    """A pytest plugin: ``favourite`` first, then the cheapest; it keeps what
    fails first, and what each test takes.

    Args:
        known (Known): From the unchanged tests.
        favourite (str, optional): The test to run first.
        chosen (set, optional): The tests to run. Defaults to all.
        calls (Calls, optional): Is told which test begins.
    """

    def __init__(
        self,
        known: Known,
        favourite: Optional[str],
        chosen: Optional[set],
        calls: Optional[Calls],
    ):
        self.known, self.favourite, self.chosen = known, favourite, chosen
        self.calls = calls
        self.failed, self.seconds, self.fixtures = None, {}, {}

    @pytest.hookimpl(tryfirst=True)  # pytest then puts parameters together
    def pytest_collection_modifyitems(self, items):
        if self.chosen is not None:
            items[:] = [i for i in items if i.nodeid in self.chosen]
        items.sort(
            key=lambda item: (
                item.nodeid != self.favourite,
                self.known.seconds.get(item.nodeid, 0),
            )
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        if self.calls:
            self.calls.begin(item.nodeid, item.fixturenames)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        name = fixturedef.argname
        if name in self.known.fixtures:
            made = pickle.loads(bytes.fromhex(self.known.fixtures[name]))
            fixturedef.func = lambda **_: made
        if self.calls and fixturedef.scope != 'function':
            with self.calls.of_fixture(name):
                result = yield
        else:
            result = yield
        if name in KEPT_FIXTURES:
            self.fixtures[name] = pickle.dumps(result).hex()
        return result

    def pytest_collectreport(self, report):
        self._first_failure(report)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = report.duration + self.seconds.get(
            report.nodeid, 0
        )
        self._first_failure(report)

    def _first_failure(self, report):
        if report.failed and self.failed is None:
            self.failed = report.nodeid


class Trial:
    """The tests of the copy ``tree``, with one of its files changed.

    Args:
        tree (Path): Copy of the repository, used by nobody else.
        tests (List[str]): Files of tests, relative to it.
        known (Known): From the unchanged tests.
        path (str): The file to change. Defaults to none.
        source (str): What it becomes.
        favourite (str): The test to run first.
        watch (bool): Whether to note what each test runs.
    """

    def __init__(
        self,
        tree: Path,
        tests: List[str],
        known: Known,
        path: Optional[str] = None,
        source: str = '',
        favourite: Optional[str] = None,
        temporary: str = 'tmp',
        watch: bool = False,
    ):
        self.tree, self.known = tree, known
        self.temporary = tree / temporary
        self.changed = tree / path if path else None
        chosen = None
        if self.changed:
            self.original = self.changed.read_text()
            chosen = tests_of(known, path, self.original, source)
            self.changed.write_text(source)
        self.answer = tree / 'answer.json'
        self.answer.unlink(missing_ok=True)
        self.looked = self.ran = time.monotonic()
        self.child = os.fork()
        if self.child == 0:
            code = TOOL_FAILED
            try:
                self._run(tests, favourite, chosen, watch)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)

    def ended(self) -> bool:
        now = time.monotonic()
        if now - self.looked > 1:
            self.looked = now
            # running, or waiting for a processor (R) or a disk (D)
            if not {'R', 'D'}.isdisjoint(_states(self.child)):
                self.ran = now
        return (
            now - self.ran > HANGS
            or os.waitid(
                os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT
            )
            is not None
        )

    def result(self) -> dict:
        """``passed``, the first that ``failed``, and the seconds of ``cpu``;
        of whole runs the ``seconds`` of each test, the ``fixtures`` and the
        third-party modules ``imported``.

        Raises:
            RuntimeError: If this tool failed, not the tests.
        """
        try:
            os.killpg(self.child, signal.SIGKILL)  # with the tests' processes
        except ProcessLookupError:
            pass
        _, status, usage = os.wait4(self.child, 0)
        if self.changed:
            self.changed.write_text(self.original)
        if status == TOOL_FAILED << 8:
            raise RuntimeError((self.tree / 'output.txt').read_text())
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (
            signal.SIGXCPU,
            signal.SIGKILL,
        )
        result = dict(
            passed=False, failed='(out of time)' if late else '(crashed)'
        )
        if self.answer.exists():
            result = json.loads(self.answer.read_text())
        return dict(result, cpu=usage.ru_utime + usage.ru_stime)

    def _run(
        self,
        tests: List[str],
        favourite: Optional[str],
        chosen: Optional[set],
        watch: bool,
    ) -> None:
        os.setsid()
        limit(self.known.cpu_limit)
        os.chdir(self.tree)
        os.environ['PYTHONPATH'] = str(self.tree)
        sys.path[:] = [str(self.tree), str(self.tree / 'tests')] + [
            p for p in sys.path if not Path(p).is_relative_to(ROOT)
        ]
        with open(self.tree / 'output.txt', 'w') as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        # the same examples for each mutant; one that fails is enough
        settings.register_profile(
            'mutants',
            phases=[Phase.explicit, Phase.generate],
            database=None,
            derandomize=True,
        )
        settings.load_profile('mutants')
        options = ['-x', '-q', '--tb=native', '-m', 'not slow']
        options += ['-p', 'no:cacheprovider', f'--basetemp={self.temporary}']
        if chosen is not None:
            # the first is collected even if nothing of it is to be run
            tests = (
                sorted({test.partition('::')[0] for test in chosen})
                or tests[:1]
            )
        calls = Calls(self.tree) if watch else None
        plan = Plan(self.known, favourite, chosen, calls)
        code = pytest.main([*options, *tests], plugins=[plan])
        sys.stdout.flush()
        passed = code == pytest.ExitCode.OK or (
            chosen == set() and code == pytest.ExitCode.NO_TESTS_COLLECTED
        )
        failed = plan.failed or '(what all the tests need)'
        self.answer.write_text(
            json.dumps(
                dict(
                    passed=passed,
                    failed=None if passed else failed,
                    seconds=plan.seconds,
                    fixtures=plan.fixtures,
                    called=calls and calls.called(),
                    imported=[
                        name
                        for name, module in sys.modules.items()
                        if not self._is_of_tree(module)
                    ],
                )
            )
        )

    def _is_of_tree(self, module) -> bool:
        # not by getattr, which would import the lazy ones
        path = getattr(module, '__dict__', {}).get('__file__')
        return path is not None and path.startswith(f'{self.tree}/')


def tests_of(known: Known, path: str, before: str, after: str) -> Optional[set]:
    """The tests that run the function in which two texts of a file differ;
    None (all of them) where it is in no function, or one that is run before
    the tests are."""
    if known.called is None:
        return None
    lines = zip(before.split('\n'), after.split('\n'))
    line = next(n for n, (a, b) in enumerate(lines, 1) if a != b)
    functions = [
        range(
            min(n.lineno for n in [node, *node.decorator_list]),
            node.end_lineno + 1,
        )
        for node in ast.walk(ast.parse(before))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    around = max((f for f in functions if line in f), key=len, default=None)

    def runs_it(places):
        return places is None or any(
            name == path and first in around for name, first in places
        )

    if around is None or runs_it(known.called['']):
        return None
    return {
        test
        for test, places in known.called.items()
        if test and runs_it(places)
    }


def _states(leader: int) -> Iterator[str]:
    """What the processes of a session are doing, see ``man 5 proc``."""
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            after_the_name = path.read_text().rpartition(')')[2].split()
        except OSError:  # it has ended meanwhile
            continue
        state, _, _, session = after_the_name[:4]
        if int(session) == leader:
            yield state


def limit(cpu_seconds: int) -> None:
    """A mutant may never end, or ask for all the memory there is."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    memory = pages * resource.getpagesize() + 8 * GIB
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def copy_repository(tree: Path) -> Path:
    shutil.rmtree(tree, ignore_errors=True)
    names = subprocess.run(
        ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in names.splitlines():
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    # by time and size, mutants of the same second would not be told apart
    compileall.compile_dir(
        tree, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH
    )
    return tree


def import_third_party(names: List[str]) -> None:
    """What this process has imported, its forks need not."""
    spec = spec_from_file_location(
        '_compat', ROOT / 'ppcd_mmagic' / 'compat.py'
    )
    spec.loader.exec_module(module_from_spec(spec))
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # made by code, or by the package: not needed here
            pass
    gc.freeze()  # a collection in a fork would copy all of it


def rehearse(tree: Path, tests: List[str], fixtures: Dict[str, str]) -> Known:
    """Run the unchanged tests, twice: first for what they import and make.

    Raises:
        SystemExit: If they do not pass.
    """
    known = Known(fixtures=dict(fixtures))
    for watch in (True, False):
        # later forks empty theirs, and other tests would empty this one: what
        # is made here is still needed
        place = f'made_{int(watch)}_{crc32(" ".join(tests).encode())}'
        trial = Trial(tree, tests, known, temporary=place, watch=watch)
        while not trial.ended():
            time.sleep(0.1)
        result = trial.result()
        if not result['passed']:
            output = (tree / 'output.txt').read_text()
            sys.exit(
                f'{output[-3000:]}\nThe tests fail on the unchanged '
                f'package, first {result["failed"]}: mend them first.'
            )
        import_third_party(result['imported'])
        known.fixtures.update(result['fixtures'])
        known.called = known.called or result['called']
    return replace(
        known, seconds=result['seconds'], cpu_limit=int(10 + 3 * result['cpu'])
    )
