"""The benchmarks run, and what they compare is comparable."""
import json
import subprocess
import sys

import pytest
from conftest import ROOT
from test_training import ENV


@pytest.mark.slow
def test_peers_agree_and_leave_nothing_smaller(tmp_path):
    run = subprocess.run([
        sys.executable, 'benchmarks/run.py', '--quick', '--parts', 'peers',
        'training', '--rounds', '1', '--out', tmp_path
    ], cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    path, = tmp_path.glob('*-quick.json')
    results = json.loads(path.read_text())
    peers = results['peers']
    ours, scale = peers.pop('ppcd_mmagic'), peers.pop('scale')
    assert scale['resolution'] == 64 and ours['difference'] <= 1e-5
    worked = [row for row in peers.values() if 'error' not in row]
    assert worked, 'Torch-Pruning at least'
    for row in worked:
        if row['difference'] <= 1e-5:
            assert ours['parameters'] <= row['parameters']
            assert ours['multiply_adds'] <= row['multiply_adds']
    assert set(results['training']) == {
        'SAGAN', 'SAGAN + masks + hook', 'SAGAN + teacher', 'PPCD-GAN',
        'hook alone', 'scale'
    }
    table = path.with_suffix('.md').read_text()
    assert '## Peers' in table and '## Training step' in table
    assert path.with_suffix('.png').stat().st_size > 1000
