"""Bad inputs and accidents, in short."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from test_training import ENV


@pytest.mark.slow
@pytest.mark.needs_torch('2.6')
def test_one_of_each_kind_ends_well(tmp_path):
    """The short form; the long one is ``python benchmarks/faults.py``."""
    found = subprocess.run(
        [
            sys.executable,
            'benchmarks/faults.py',
            '--short',
            '1',
            '--jobs',
            '1',
            '--root',
            str(tmp_path),
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    *kinds, together = re.findall(
        r'^\| ([^|]+) \| (\d+) \|', found.stdout, re.M
    )
    assert len(kinds) >= 15 and {tried for _, tried in kinds} == {'1'}
    assert together == ('together', str(len(kinds)))
