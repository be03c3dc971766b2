import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from conftest import ROOT
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DefaultScope

from ppcd_mmagic.registry import MODELS


def test_missing_operators_raise_one_clear_error_when_called():
    import mmcv

    if (
        not hasattr(sys.modules['mmcv._ext'], '__file__')
        or 'ppcd_mmagic' not in sys.modules['mmcv._ext'].__file__
    ):
        pytest.skip(f'this MMCV {mmcv.__version__} has its operators')
    import torch
    from mmcv.ops import modulated_deform_conv2d

    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(
        RuntimeError, match='modulated_deform_conv_forward.*full "mmcv"'
    ):
        modulated_deform_conv2d(
            x,
            torch.zeros(1, 18, 4, 4),
            torch.zeros(1, 9, 4, 4),
            torch.zeros(1, 1, 3, 3),
            None,
            1,
            1,
            1,
            1,
            1,
        )


def test_import_is_quiet_and_leaves_heavy_parts_for_later():
    code = (
        'import sys, ppcd_mmagic; print([name for name in '
        '("nni", "sklearn.datasets", "matplotlib.pyplot") '
        'if name in sys.modules])'
    )
    run = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={'PYTHONPATH': ROOT},
    )
    assert run.returncode == 0, run.stderr
    assert 'nni' not in run.stdout
    assert 'ppcd_mmagic' not in run.stderr


@pytest.mark.parametrize('found', ['2.0.1', '2.2.0'])
def test_another_mmcv_is_refused_with_both_versions(found, tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text(f'__version__ = "{found}"')
    run = subprocess.run(
        [sys.executable, '-c', 'import ppcd_mmagic'],
        capture_output=True,
        text=True,
        env={'PYTHONPATH': f'{tmp_path}:{ROOT}'},
    )
    assert run.returncode != 0
    message = run.stderr.splitlines()[-1]
    assert 'MMCV, version >=2.1,<2.2' in message
    assert f'found {found}' in message


DISCRIMINATORS = dict(
    SAGAN=dict(type='SAGANDiscriminator', base_channels=8),
    SNGAN=dict(type='ProjDiscriminator', base_channels=8),
    BigGAN=dict(type='BigGANDiscriminator', base_channels=8),
)
GENERATORS = dict(
    SAGAN=dict(type='SAGANGenerator', base_channels=4),
    SNGAN=dict(type='SNGANGenerator', base_channels=4),
    BigGAN=dict(type='BigGANGenerator', base_channels=4, auto_sync_bn=False),
)


@pytest.mark.parametrize('kind', DISCRIMINATORS)
def test_a_discriminator_gives_one_score_for_each_labelled_image(kind):
    """MMagic 1.2 hands it labels (n, 1) of the data, with which it gives
    scores (n, n)."""
    shared = dict(num_classes=3)
    model = MODELS.build(
        dict(
            type=kind,
            noise_size=8,
            data_preprocessor=dict(type='DataPreprocessor'),
            generator=dict(
                GENERATORS[kind], output_scale=32, noise_size=8, **shared
            ),
            discriminator=dict(DISCRIMINATORS[kind], input_scale=32, **shared),
        )
    )
    shapes = []
    model.discriminator.register_forward_hook(
        lambda module, args, scores: shapes.append(tuple(scores.shape))
    )
    samples = []
    for label in (0, 2, 1, 1):
        sample = DataSample(gt_img=torch.rand(3, 32, 32))
        sample.set_gt_label(label)
        samples.append(sample)
    wrappers = OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), 1e-3)
            )
            for name in ('generator', 'discriminator')
        }
    )
    MessageHub.get_instance('labels')
    MessageHub.get_current_instance().update_info('iter', 0)
    model.train_step(
        dict(
            inputs=dict(img=[s.gt_img for s in samples]), data_samples=samples
        ),
        wrappers,
    )
    assert len(shapes) == 3 and set(shapes) == {(4, 1)}


@pytest.mark.parametrize(
    'name',
    [
        'dcgan/dcgan_Glr4e-4_Dlr1e-4_1xb128-5kiters_mnist-64x64',
        'pix2pix/pix2pix_vanilla-unet-bn_1xb1-80kiters_facades',
    ],
)
def test_models_whose_initialization_failed_are_initialized(name):
    """As their papers say: weights of convolutions N(0, 0.02)."""
    config = Config.fromstring(f'_base_ = "mmagic::{name}.py"', '.py')
    config.model.generator.base_channels = 16
    with DefaultScope.overwrite_default_scope('mmagic'):
        model = MODELS.build(config.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7.0)
        model.init_weights()
    convs = [
        m.weight
        for m in model.modules()
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    assert len(convs) > 8
    together = torch.cat([weight.flatten() for weight in convs])
    assert abs(float(together.mean())) < 1e-3
    assert float(together.std()) == pytest.approx(0.02, rel=0.02)
