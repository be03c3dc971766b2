"""Run a tool on something bad, in a process of its own, and judge what it does.

The processes are forked: what takes seconds to import is there already.
"""

import contextlib
import hashlib
import importlib
import os
import os.path as osp
import re
import shutil
import signal
import sys
import time
import traceback
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path[:0] = [osp.join(ROOT, 'tools'), osp.join(ROOT, 'tests')]
from command_line import run as enter  # noqa: E402

GOOD = ('one line', 'as it should')
BAD = ('traceback', 'unclear', 'silent', 'lost')
PATIENCE = 150  # seconds


class Outcome(NamedTuple):
    """What became of a trial: one of ``GOOD`` or ``BAD``, and why."""

    verdict: str
    why: str = ''


class Trial(NamedTuple):
    """Something to try.

    Attributes:
        kind (str): Its row in the table.
        name (str): What is wrong, unique.
        play (Callable): Does it in a new folder, and judges.
    """

    kind: str
    name: str
    play: Callable[[str], Outcome]


class Ended(NamedTuple):
    """A process that has ended; the code is negative for a signal."""

    code: int
    errors: str


class Process:
    """A tool in a process of its own.

    Args:
        tool (str | Callable): Name of a module in tools/, or a function
            without arguments.
        arguments (Sequence): Of its command line.
        folder (str): Where it runs, and where its output goes.
        inside (Callable, optional): Called in the process, before the tool.
    """

    def __init__(
        self,
        tool: Any,
        arguments: Sequence,
        folder: str,
        inside: Optional[Callable] = None,
    ) -> None:
        self.main = (
            importlib.import_module(tool).main
            if isinstance(tool, str)
            else tool
        )
        self.argv = [f'{tool}.py', *map(str, arguments)]
        self.folder = folder
        # hidden, so that they are no part of what the tool works on
        self.output = osp.join(folder, '.output')
        self.status: Optional[int] = None
        self.number = os.fork()
        if not self.number:
            self._child(inside)

    def _child(self, inside: Optional[Callable]) -> None:
        code = 1
        try:
            os.setpgrp()  # a signal to all of its processes is its own
            files = [
                open(f'{self.output}.{what}', 'w') for what in ('out', 'err')
            ]
            for number, file in enumerate(files, 1):
                os.dup2(file.fileno(), number)
            os.chdir(self.folder)
            sys.argv = self.argv
            if inside:
                inside()
            enter(self.main)
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def running(self) -> bool:
        if self.status is None:
            found, status = os.waitpid(self.number, os.WNOHANG)
            self.status = status if found else None
        return self.status is None

    def send(self, number: int, to_all: bool = False) -> None:
        (os.killpg if to_all else os.kill)(self.number, number)

    def wait_for(self, happens: Callable[[], bool]) -> bool:
        """Whether it happens before the process ends."""
        begin = time.time()
        while self.running() and time.time() < begin + PATIENCE:
            if happens():
                return True
            time.sleep(0.0005)
        return False

    def ended(self) -> Ended:
        begin = time.time()
        while self.running():
            if time.time() > begin + PATIENCE:
                self.send(signal.SIGKILL, to_all=True)
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(self.status)
        with open(f'{self.output}.err', errors='replace') as file:
            return Ended(code, file.read())


def call(
    tool: Any,
    arguments: Sequence,
    folder: str,
    inside: Optional[Callable] = None,
) -> Ended:
    """Run a tool to its end."""
    return Process(tool, arguments, folder, inside).ended()


def contents(folder: str) -> Dict[str, str]:
    """Hashes of all files in a folder by their paths; hidden ones are the
    tools' own, and logs grow."""
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != '.']
        for name in names:
            path = osp.join(root, name)
            if name[0] != '.' and osp.isfile(path):
                with open(path, 'rb') as file:
                    found[path] = hashlib.sha1(file.read()).hexdigest()
    return found


def lines_of(errors: str) -> list:
    """The messages: this package's, or those of the command line's parser."""
    return re.findall(r'^(?:error: |\S+\.py: error: )(.*)$', errors, re.M)


def judged(ended: Ended, says: str) -> Outcome:
    """What should have ended in one line that says something.

    Args:
        ended (Ended): What it did.
        says (str): Regular expression of what the line must name.
    """
    last = (ended.errors.strip().splitlines() or [''])[-1]
    if 'Traceback (most recent' in ended.errors or ended.code < 0:
        return Outcome('traceback', f'code {ended.code}: {last}')
    if ended.code == 0:
        return Outcome('silent', last)
    lines = lines_of(ended.errors)
    if ended.code != 2 or len(lines) != 1:
        return Outcome(
            'unclear', f'code {ended.code}, {len(lines)} lines: {lines or last}'
        )
    if not re.search(says, lines[0], re.I):
        return Outcome('unclear', f'does not say {says}: {lines[0]}')
    return Outcome('one line', lines[0])


def refused(
    tool: Any,
    arguments: Sequence,
    says: str,
    prepare: Optional[Callable[[str], None]] = None,
    inside: Optional[Callable] = None,
) -> Callable[[str], Outcome]:
    """A trial that must end in one line and leave all files as they were."""

    def play(folder: str) -> Outcome:
        if prepare:
            prepare(folder)
        before = contents(folder)
        outcome = judged(call(tool, arguments, folder, inside), says)
        after = contents(folder)
        changed = [path for path in before if after.get(path) != before[path]]
        if changed:
            return Outcome('lost', f'{changed[0]}: {outcome}')
        return outcome

    return play


def accepted(
    tool: Any,
    arguments: Sequence,
    right: Callable[[str], Any],
    prepare: Optional[Callable[[str], None]] = None,
    inside: Optional[Callable] = None,
) -> Callable[[str], Outcome]:
    """A trial that looks bad, is not, and must be done.

    Args:
        right (Callable): Whether what has become of the folder is right.
    """

    def play(folder: str) -> Outcome:
        if prepare:
            prepare(folder)
        ended = call(tool, arguments, folder, inside)
        if ended.code:
            outcome = judged(ended, '')
            return outcome._replace(
                verdict='unclear'
                if outcome.verdict in GOOD
                else outcome.verdict
            )
        if not right(folder):
            return Outcome('silent', 'done, but not as it should be')
        return Outcome('as it should')

    return play


def play(trial: Trial, folder: str) -> Outcome:
    """In a new folder, deleted if all is well."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    try:
        outcome = trial.play(folder)
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome('unclear', f'trial: {type(error).__name__}: {error}')
    if outcome.verdict in GOOD:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
