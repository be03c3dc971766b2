"""Every config builds what it names, at its full size, without any file."""
import os.path as osp
from glob import glob

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.visualization import Visualizer

from ppcd_mmagic.registry import DATASETS, HOOKS, MODELS

CONFIGS = sorted(
    osp.basename(path) for path in glob(osp.join(ROOT, 'configs', '*.py')))


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name):
    config = Config.fromfile(osp.join(ROOT, 'configs', name))
    if config.model.get('teacher'):
        config.model.teacher.checkpoint = None
    with torch.device('meta'):
        model = MODELS.build(config.model)
    Visualizer.get_instance('test_configs')  # some hooks ask for one
    for hook in config.custom_hooks:
        HOOKS.build(hook)
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None
    if hasattr(model, 'generator'):
        assert model.generator.num_classes == config.num_classes
        assert model.generator.output_scale in (16, 64, 128)
