"""What an installation must be able to do; `make test-install` runs this in
an environment that plain pip has set up."""

import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from mmagic.apis import init_model
from mmengine.config import Config

from ppcd_mmagic.registry import MODELS

TEACHER = 'checkpoints/biggan_digits_16.pth'


def run_tool(*args):
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=300
    )


def test_an_export_opens_by_init_model_as_in_readme(repo, tmp_path):
    config = Config.fromfile('configs/ppcd_gan/ppcd_digits_16_alpha06.py')
    config.model.teacher = None
    student = MODELS.build(config.model)
    checkpoint = tmp_path / 'iter_1.pth'
    torch.save(dict(state_dict=student.state_dict()), checkpoint)
    run = run_tool(
        'tools/export.py',
        'configs/ppcd_gan/ppcd_digits_16_alpha06.py',
        str(checkpoint),
        '--max-classes',
        '2',
    )
    assert run.returncode == 0, run.stderr
    export = tmp_path / 'export'
    model = init_model(
        str(export / 'config.py'), str(export / 'generator.pth'), device='cpu'
    )
    noise = torch.randn(3, config.model.noise_size)
    label = torch.tensor([0, 4, 9])
    with torch.no_grad():
        images = model.generator(noise, label=label)
        expected = student.generator_ema.module.eval()(noise, label=label)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def test_configs_can_build_on_mmagics(tmp_path):
    pytest.importorskip('pkg_resources')
    config = tmp_path / 'mine.py'
    config.write_text(
        "_base_ = 'mmagic::biggan/biggan_2xb25-500kiters_cifar10-32x32.py'\n"
    )
    assert Config.fromfile(config).model.type == 'BigGAN'


def test_dependencies_are_within_their_bounds():
    """Of the distribution, where the package is installed as one."""
    try:
        requirements = distribution('ppcd_mmagic').requires
    except PackageNotFoundError:
        pytest.skip('runs from a checkout')
    from packaging.requirements import Requirement

    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(
            {'extra': ''}
        ):
            continue
        found = distribution(requirement.name).version
        assert requirement.specifier.contains(found, prereleases=True), text


def test_faces_of_controlnet_aux_are_refused_only_when_asked_for():
    module = sys.modules.get('controlnet_aux.mediapipe_face')
    if (
        importlib.util.find_spec('mediapipe') is None
        or module is None
        or not module.__file__.endswith('compat.py')
    ):
        pytest.skip('mediapipe is absent, or has what it is asked for')
    with pytest.raises(RuntimeError, match='mediapipe<0.10.30'):
        module.MediapipeFaceDetector()
