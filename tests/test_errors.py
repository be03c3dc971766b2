"""A user's mistake is a line; a fault of the program keeps its traceback."""
import subprocess
import sys

import pytest
from conftest import ROOT

from ppcd_mmagic import PPCDError

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


def test_nothing_wrong_is_exit_code_zero():
    assert outcome('pass') == (0, [])


def test_own_errors_are_value_errors():
    with pytest.raises(ValueError, match='^first; second$'):
        raise PPCDError('first', 'second')
