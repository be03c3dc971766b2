"""Nothing that is not finite is ever saved."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine import MessageHub
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
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
    with pytest.raises(
        PPCDError,
        match='loss_cd is nan at iteration 1: the .*Start again with a smaller',
    ):
        train(tmp_path, model__distillation_loss__loss_weight=float('nan'))
    all_saved_are_finite(tmp_path, [])


def plain():
    return OptimWrapper(torch.optim.SGD([torch.zeros(1)], 0.1))


def scaled():
    """Mixed precision, which cannot be set up without a GPU."""
    return AmpOptimWrapper.__new__(AmpOptimWrapper)


def watched(infinite, wrapper, iterations=6, **settings):
    """The iteration at which it ends, None if it does not. Of some the loss
    is infinite."""
    hook = FiniteGuardHook(**settings)
    hub = MessageHub('finite_guard')
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=wrapper)
    for runner.iter in range(iterations):
        loss = float('inf' if runner.iter + 1 in infinite else 1)
        hub.update_scalar('train/loss', loss)
        hub.update_scalar('train/time', 1.0)
        try:
            hook.after_train_iter(runner, 0, outputs=dict(loss=loss))
        except PPCDError as error:
            assert f'loss is inf at iteration {runner.iter + 1}:' in str(error)
            return runner.iter + 1
    return None


@pytest.mark.parametrize(
    'infinite, ends',
    [
        ((2, 4, 6), None),
        ((2, 3, 5, 6), None),
        ((2, 3, 4), 4),
        ((1, 2, 3), 3),
        ((1, 3, 4, 5), 5),
    ],
)
def test_mixed_precision_may_overflow_for_a_while(infinite, ends):
    assert watched(infinite, scaled(), patience=2) == ends


@pytest.mark.parametrize(
    'wrapper, ends',
    [
        (scaled(), 23),
        (OptimWrapperDict(generator=plain(), discriminator=scaled()), 23),
        (OptimWrapperDict(generator=plain(), discriminator=plain()), 3),
        (plain(), 3),
    ],
)
def test_twenty_overflows_in_a_row_are_the_most_and_only_where_scaled(
    wrapper, ends
):
    assert watched(range(3, 40), wrapper, iterations=40) == ends


def test_without_patience_the_first_overflow_ends_it():
    assert watched([4], scaled(), patience=0) == 4


def test_iterations_without_losses_are_let_pass():
    FiniteGuardHook().after_train_iter(
        SimpleNamespace(iter=0, optim_wrapper=plain()), 0, outputs=None
    )


def test_patience_is_a_count():
    with pytest.raises(PPCDError, match='patience=-1'):
        FiniteGuardHook(patience=-1)
