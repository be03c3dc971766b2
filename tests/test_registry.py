import mmagic.registry
import mmengine.registry
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner

from ppcd_mmagic import registry


@pytest.mark.parametrize('name', ['MODELS', 'HOOKS', 'DATASETS', 'METRICS'])
def test_mmagics_registries_know_every_part(name):
    ours = getattr(registry, name).module_dict
    theirs = getattr(mmagic.registry, name)
    assert ours
    assert {part: theirs.get(part) for part in ours} == ours


@pytest.mark.parametrize('name', ['MODELS', 'HOOKS', 'DATASETS', 'RUNNERS'])
def test_mmengine_and_other_scopes_know_every_part_by_its_full_name(name):
    root = getattr(mmengine.registry, name)
    other = Registry(name.lower(), parent=root, scope=f'another_{name}')
    for part, built in getattr(registry, name).module_dict.items():
        assert root.get(f'ppcd_mmagic.{part}') is built
        assert other.get(f'ppcd_mmagic.{part}') is built


@pytest.mark.parametrize('scope', ['ppcd_mmagic', 'mmagic'])
def test_a_training_config_runs_in_either_scope(scope, repo, tmp_path):
    config = Config.fromfile('configs/ppcd_gan/ppcd_digits_16_alpha06.py')
    config.default_scope = scope
    config.work_dir = str(tmp_path)
    config.experiment_name = f'in_{scope}'
    config.model.teacher.checkpoint = 'checkpoints/biggan_digits_16.pth'
    config.train_cfg.max_iters = 1
    config.train_dataloader.batch_size = 2
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    with DefaultScope.overwrite_default_scope(scope):
        runner = Runner.from_cfg(config)
        runner.train()
    assert type(runner.model).__name__ == 'PPCDGAN'
    assert runner.iter == 1


def test_a_name_that_mmagic_has_is_refused():
    with pytest.raises(KeyError, match='BigGAN is already registered'):
        registry.MODELS.register_module('BigGAN', module=dict)
    assert 'BigGAN' not in registry.MODELS.module_dict
