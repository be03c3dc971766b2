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


def test_table_of_generators_says_what_is_left_or_why_nothing_can_leave(
        monkeypatch):
    monkeypatch.syspath_prepend(f'{ROOT}/benchmarks')
    import generators
    name, masked, tied, independent, difference, peer = generators.line('SRCNN')
    # 9 x 9, 1 x 1 and 5 x 5 pixels; 3, 64, 32 and 3 channels, half of both
    dense = 64 * 3 * 81 + 64 + 32 * 64 + 32 + 3 * 32 * 25 + 3
    left = 32 * 3 * 81 + 32 + 16 * 32 + 16 + 3 * 16 * 25 + 3
    assert (masked, tied, independent) == ('2', *[f'{left / dense:.0%}'] * 2)
    assert float(difference) < 1e-12 and peer.startswith(tied)
    name, refused, *_ = generators.line('StyleGAN2')
    assert refused.startswith('refused: convs: no convolution matches')
