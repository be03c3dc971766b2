"""Nothing that is not finite is ever saved."""
import re

import pytest
import torch
from mmengine.hooks import Hook
from runs import tiny_runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.checkpoints import read_checkpoint
from ppcd_mmagic.engine import FiniteGuardHook


class Poison(Hook):
    """Spoils one value after the third iteration."""
    priority = 'VERY_HIGH'

    def __init__(self, name, value):
        self.name, self.value = name, value

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == 3:
            state = runner.model.state_dict()
            state[self.name].view(-1)[0] = self.value


def train(work_dir, hook=None, **options):
    runner = tiny_runner(work_dir, **options)
    if hook:
        runner.register_hook(hook)
    runner.train()


def all_saved_are_finite(work_dir, names):
    assert sorted(path.name for path in work_dir.glob('*.pth')) == names
    for name in names:
        read_checkpoint(str(work_dir / name), 'saved')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_spoilt_weight_ends_the_training_at_the_next_loss(tmp_path, value):
    with pytest.raises(PPCDError) as error:
        train(tmp_path, Poison('generator.noise2feat.bias', value))
    assert re.match(r'loss\S* is (nan|-?inf) at iteration 4', str(error.value))
    assert str(tmp_path / 'iter_2.pth') in str(error.value)
    all_saved_are_finite(tmp_path, ['iter_2.pth'])


def test_a_spoilt_copy_is_noticed_before_it_is_saved(tmp_path):
    name = 'generator_ema.module.noise2feat.bias'
    with pytest.raises(PPCDError, match=f'{name} is not finite after .* 4'):
        train(tmp_path, Poison(name, float('nan')))
    all_saved_are_finite(tmp_path, ['iter_2.pth'])


def test_a_learning_rate_that_throws_weights_away(tmp_path):
    with pytest.raises(PPCDError, match='iteration'):
        train(tmp_path, optim_wrapper__generator__optimizer__lr=1e30)
    all_saved_are_finite(tmp_path, [])


def test_a_weight_of_a_loss_that_is_no_number(tmp_path):
    with pytest.raises(PPCDError, match='loss_cd is nan at iteration 1'):
        train(tmp_path, model__distillation_loss__loss_weight=float('nan'))
    all_saved_are_finite(tmp_path, [])


class Overflow(Hook):
    """Logs an infinite loss at the iterations given."""

    def __init__(self, iterations):
        self.iterations = iterations
    priority = 'VERY_HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        if runner.iter + 1 in self.iterations:
            outputs['loss'] = torch.tensor(float('inf'))
            runner.message_hub.update_scalar('train/loss', outputs['loss'])


@pytest.mark.parametrize('iterations, ends', [((2, 4, 6), False),
                                              ((2, 3, 4), True)])
def test_mixed_precision_may_overflow_for_a_while(
        tmp_path, monkeypatch, iterations, ends):
    from ppcd_mmagic.engine.hooks import finite_guard_hook
    monkeypatch.setattr(finite_guard_hook, '_is_scaled', lambda runner: True)
    options = dict(default_hooks__finite_guard__patience=2)
    if not ends:
        train(tmp_path, Overflow(iterations), **options)
    else:
        with pytest.raises(PPCDError, match='loss is inf at iteration 4'):
            train(tmp_path, Overflow(iterations), **options)


def test_patience_is_a_count():
    with pytest.raises(PPCDError, match='patience=-1'):
        FiniteGuardHook(patience=-1)
