"""A user's mistake is a line; a fault of the program keeps its traceback."""
import subprocess
import sys

import pytest
from conftest import ROOT
from tool_calls import load_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.engine import lost_processes_named

PROGRAM = '''
import sys
sys.path.insert(0, 'tools')
from command_line import run
from ppcd_mmagic import PPCDError
def main():
    {body}
run(main)
'''


def outcome(body):
    done = subprocess.run([sys.executable, '-c', PROGRAM.format(body=body)],
                          cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr.strip().splitlines()


def test_own_errors_are_one_line_each_and_exit_with_two():
    code, lines = outcome(r'raise PPCDError("alpha=2\n  is too large", "b")')
    assert code == 2
    assert lines == ['error: alpha=2 is too large', 'error: b']


def test_other_errors_keep_their_traceback():
    code, lines = outcome('int("x")')
    assert code == 1
    assert lines[0].startswith('Traceback')
    assert lines[-1].startswith('ValueError')


@pytest.mark.parametrize('said', [
    '[/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed by peer '
    '[127.0.0.1]:25525. This is typically caused by\na remote worker',
    '[/pytorch/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting '
    '3000ms for recv operation to complete',
    'Application timeout caused pair closure',
])
def test_the_end_of_another_process_is_a_line(said):
    """As torch 2.14 words it."""
    with pytest.raises(PPCDError, match='Another process.*--resume') as found:
        with lost_processes_named():
            raise RuntimeError(said)
    assert '\n' not in str(found.value) and said[:30] in str(found.value)


@pytest.mark.parametrize('error', [
    RuntimeError('Expected all tensors to be on the same device'),
    ValueError('Connection closed by peer')
])
def test_what_no_other_process_is_the_cause_of_stays_as_it_is(error):
    with pytest.raises(type(error)) as found, lost_processes_named():
        raise error
    assert found.value is error


class Refuses:
    """As the parts of MMagic and MMEngine do."""

    def __init__(self, config):
        raise ValueError(
            'Only support `IN` and `BN`')


class Fails:

    def __init__(self, config):
        self.width = int('x')


class FailsDeeper:

    def __init__(self, config):
        self.build()

    def build(self):
        raise ValueError('too many values to unpack')


@pytest.mark.parametrize('part, kind', [
    (Refuses, PPCDError), (Fails, ValueError), (FailsDeeper, ValueError)])
def test_only_what_a_part_refuses_is_a_mistake_of_the_config(
        monkeypatch, part, kind):
    tool = load_tool('command_line')
    monkeypatch.setattr(tool.SafeRunner, 'from_cfg', part)
    with pytest.raises(ValueError) as found:
        tool.build_runner({})
    assert type(found.value) is kind


def test_nothing_wrong_is_exit_code_zero():
    assert outcome('pass') == (0, [])


def test_own_errors_are_value_errors():
    with pytest.raises(ValueError, match='^first; second$'):
        raise PPCDError('first', 'second')
