import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_becomes_the_same(tmp_path):
    """The short form; the long one is ``python benchmarks/kills.py``."""
    out = tmp_path / 'kills.json'
    done = subprocess.run(
        [
            sys.executable,
            'benchmarks/kills.py',
            '--kills',
            '4',
            '--out',
            str(out),
        ],
        cwd=ROOT,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found['kills'] == 4 and found['trainings'] >= 1
    assert found['lost'] == found['different'] == 0
