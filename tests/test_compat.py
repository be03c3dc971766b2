import subprocess
import sys

import pytest
from conftest import ROOT


def test_missing_operators_raise_one_clear_error_when_called():
    import mmcv
    if not hasattr(sys.modules['mmcv._ext'], '__file__') or \
            'ppcd_mmagic' not in sys.modules['mmcv._ext'].__file__:
        pytest.skip(f'this MMCV {mmcv.__version__} has its operators')
    from mmcv.ops import modulated_deform_conv2d
    import torch
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(
            RuntimeError, match='modulated_deform_conv_forward.*full "mmcv"'):
        modulated_deform_conv2d(x, torch.zeros(1, 18, 4, 4),
                                torch.zeros(1, 9, 4, 4),
                                torch.zeros(1, 1, 3, 3), None, 1, 1, 1, 1, 1)


def test_import_is_quiet_and_leaves_heavy_parts_for_later():
    code = ('import sys, ppcd_mmagic; print([name for name in '
            '("nni", "sklearn.datasets", "matplotlib.pyplot") '
            'if name in sys.modules])')
    run = subprocess.run([sys.executable, '-c', code],
                         capture_output=True,
                         text=True,
                         cwd=ROOT,
                         env={'PYTHONPATH': ROOT})
    assert run.returncode == 0, run.stderr
    assert 'nni' not in run.stdout
    assert 'ppcd_mmagic' not in run.stderr


@pytest.mark.parametrize('found', ['2.0.1', '2.2.0'])
def test_another_mmcv_is_refused_with_both_versions(found, tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text(f'__version__ = "{found}"')
    run = subprocess.run([sys.executable, '-c', 'import ppcd_mmagic'],
                         capture_output=True,
                         text=True,
                         env={'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert run.returncode != 0
    message = run.stderr.splitlines()[-1]
    assert 'MMCV, version >=2.1,<2.2' in message
    assert f'found {found}' in message
