"""A user's mistake is a line; a fault of the program keeps its traceback."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from mmengine.registry import Registry
from tool_calls import TOOLS

from ppcd_mmagic import PPCDError
from ppcd_mmagic.building import building
from ppcd_mmagic.engine import lost_processes_named
from ppcd_mmagic.files import written_whole

sys.path.insert(0, TOOLS)
from command_line import run  # noqa: E402


@pytest.fixture
def outcome(capsys):
    """Exit code of a tool and the lines it writes to stderr."""

    def enter(main):
        with pytest.raises(SystemExit) as ended:
            run(main)
        return ended.value.code, capsys.readouterr().err.splitlines()

    return enter


def raising(error):

    def main():
        raise error

    return main


def test_own_errors_are_one_line_each_and_exit_with_two(outcome):
    assert outcome(raising(PPCDError('alpha=2\n  is too large', 'b'))) == (
        2,
        ['error: alpha=2 is too large', 'error: b'],
    )


def test_other_errors_keep_their_traceback():
    with pytest.raises(ValueError, match='invalid literal'):
        run(lambda: int('x'))


@pytest.mark.parametrize(
    'said',
    [
        '[/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed by peer '
        '[127.0.0.1]:25525. This is typically caused by\na remote worker',
        '[/pytorch/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting '
        '3000ms for recv operation to complete',
        'Application timeout caused pair closure',
    ],
)
def test_the_end_of_another_process_is_a_line(said):
    """As torch 2.14 words it."""
    with pytest.raises(PPCDError, match='Another process.*--resume') as found:
        with lost_processes_named():
            raise RuntimeError(said)
    assert '\n' not in str(found.value) and said[:30] in str(found.value)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('Expected all tensors to be on the same device'),
        ValueError('Connection closed by peer'),
    ],
)
def test_what_no_other_process_is_the_cause_of_stays_as_it_is(error):
    with pytest.raises(type(error)) as found, lost_processes_named():
        raise error
    assert found.value is error


def test_nothing_wrong_is_exit_code_zero(outcome):
    assert outcome(lambda: None) == (0, [])


def test_own_errors_are_value_errors():
    with pytest.raises(ValueError, match='^first; second$'):
        raise PPCDError('first', 'second')


@pytest.mark.parametrize('name', ['ENOSPC', 'EACCES', 'EROFS', 'EEXIST'])
def test_what_the_machine_refuses_is_one_line(outcome, name):
    error = OSError(getattr(errno, name), 'says the machine', 'out/a.png')
    code, lines = outcome(raising(error))
    assert code == 2
    (line,) = lines
    assert line.startswith('error: out/a.png') and 'says the machine' in line


def test_a_file_that_is_missing_may_be_a_fault_of_the_program():
    with pytest.raises(FileNotFoundError):
        run(raising(FileNotFoundError(errno.ENOENT, 'no file', 'a')))


def test_control_c_is_no_traceback(outcome):
    assert outcome(raising(KeyboardInterrupt())) == (130, ['stopped by SIGINT'])


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_tool_that_is_ended_clears_up(name, outcome, tmp_path):
    number, before = getattr(signal, name), signal.getsignal(signal.SIGTERM)

    def main():
        with written_whole(str(tmp_path / 'result')) as partial:
            open(partial, 'w').close()
            signal.raise_signal(number)

    assert outcome(main) == (128 + number, [f'stopped by {name}'])
    assert not any(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_of_a_tool_are_ended_at_once(outcome):
    def main():
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert outcome(main) == (-signal.SIGTERM, [])


def test_the_same_signal_again_ends_a_tool_that_clears_up():
    done = subprocess.run(
        [sys.executable, '-c', CLEARS_UP],
        cwd=TOOLS,
        capture_output=True,
        text=True,
    )
    assert done.stdout == 'clears up\n'
    assert done.returncode == -signal.SIGTERM, done.stderr


CLEARS_UP = """
from command_line import run
import signal
def main():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        print('clears up', flush=True)
        signal.raise_signal(signal.SIGTERM)
        print('still there', flush=True)
run(main)
"""


PARTS = Registry('part', scope='test')


@PARTS.register_module()
class Sized:
    def __init__(self, size):
        self.size = 4 // size


@pytest.mark.parametrize(
    'config, says',
    [
        (dict(type='Sized', size=0), r'the part \(Sized\).*ZeroDivisionError'),
        (dict(type='Sized', width=1), r'the part \(Sized\).*width'),
        (dict(type='Nonsense'), 'the part .*Nonsense is not in'),
        (dict(size=1), 'the part .*must contain the key "type"'),
    ],
)
def test_what_parts_of_others_say_of_a_config_is_one_line(config, says):
    with pytest.raises(PPCDError, match=says):
        with building('the part'):
            PARTS.build(config)


def test_own_messages_pass_the_building_as_they_are():
    with pytest.raises(PPCDError, match='^alpha$'):
        with building('the part'):
            raise PPCDError('alpha')


def test_a_fault_of_this_package_while_building_keeps_its_traceback(
    monkeypatch,
):
    monkeypatch.setattr(
        'ppcd_mmagic.building._PACKAGE', TOOLS.rpartition('/')[0] + '/tests'
    )  # as if this file were the package's
    with pytest.raises(ZeroDivisionError):
        with building('the part'):
            Sized(0)
