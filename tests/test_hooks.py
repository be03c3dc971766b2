import math
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from conftest import SAGAN, build_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MessageHub

from ppcd_mmagic.masks import named_masks
from ppcd_mmagic.registry import HOOKS


def runner_for(generator, max_iters, ema=None):
    model = SimpleNamespace(generator=generator)
    if ema is not None:
        model.generator_ema = SimpleNamespace(module=ema)
    return SimpleNamespace(
        model=model,
        max_iters=max_iters,
        iter=0,
        visualizer=Mock(),
        message_hub=MessageHub.get_instance('test_hooks'))


def start(hook, runner):
    hook.before_run(runner)
    hook.before_train(runner)


def step(hook, runner):
    hook.after_train_iter(runner, runner.iter)
    runner.iter += 1


def build_hook(**kwargs):
    return HOOKS.build(dict(type='MaskBinarizationHook', **kwargs))


@given(
    alpha=st.floats(0, 0.99),
    schedule=st.sampled_from(['threshold', 'linear', 'cubic']),
    interval=st.integers(1, 5),
    begin=st.integers(0, 5),
    length=st.integers(1, 12),
    seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_invariants_under_random_schedules(alpha, schedule, interval, begin,
                                           length, seed):
    generator = build_generator(SAGAN)
    torch.manual_seed(seed)
    hook = build_hook(
        alpha=alpha,
        schedule=schedule,
        interval=interval,
        begin=begin,
        end=begin + length)
    runner = runner_for(generator, begin + length + 3)
    start(hook, runner)
    masks = dict(named_masks(generator))
    before = {name: mask.pruned.clone() for name, mask in masks.items()}
    for _ in range(runner.max_iters):
        with torch.no_grad():
            for mask in masks.values():  # training moves the scores
                mask.weight.add_(torch.randn_like(mask.weight) * 0.3)
        frozen = runner.iter + 1 <= begin or runner.iter + 1 > begin + length
        step(hook, runner)
        for name, mask in masks.items():
            cap = math.floor(round(alpha * mask.channels, 6))
            assert (mask.pruned | ~before[name]).all()
            assert mask.num_pruned <= min(cap, mask.channels - 1)
            if frozen:
                assert torch.equal(mask.pruned, before[name])
            before[name] = mask.pruned.clone()
    if schedule != 'threshold':
        for mask in masks.values():
            cap = math.floor(round(alpha * mask.channels, 6))
            assert mask.num_pruned == min(cap, mask.channels - 1)


@pytest.mark.parametrize('schedule, formula', [
    ('linear', lambda t: t),
    ('cubic', lambda t: 1 - (1 - t)**3),
])
def test_schedules_by_formula(schedule, formula):
    generator = build_generator(SAGAN)
    hook = build_hook(alpha=0.5, schedule=schedule, begin=2, end=12)
    runner = runner_for(generator, 20)
    start(hook, runner)
    for done in range(1, 21):
        step(hook, runner)
        t = min(max((done - 2) / 10, 0), 1)
        for _, mask in named_masks(generator):
            expected = math.floor(0.5 * formula(t) * mask.channels + 1e-6)
            assert mask.num_pruned == expected


def test_threshold_rule_prunes_at_or_below_and_at_most_alpha():
    generator = build_generator(SAGAN)
    hook = build_hook(alpha=0.5, threshold=0.3)
    runner = runner_for(generator, 10)
    start(hook, runner)
    masks = [mask for _, mask in named_masks(generator)]
    with torch.no_grad():
        for mask in masks:
            mask.weight.fill_(1.)
            mask.weight[1] = 0.3
            mask.weight[2] = 0.31
    step(hook, runner)
    for mask in masks:
        assert mask.pruned.nonzero().flatten().tolist() == [1]
    with torch.no_grad():
        for mask in masks:
            mask.weight.copy_(torch.linspace(-1, 0.29, mask.channels))
    step(hook, runner)
    for mask in masks:
        assert mask.num_pruned == mask.channels // 2
        assert mask.pruned[1]


def test_ema_masks_follow_and_sparsity_is_logged():
    generator, ema = build_generator(SAGAN), build_generator(SAGAN)
    hook = build_hook(alpha=0.5, schedule='linear', end=2)
    runner = runner_for(generator, 2, ema)
    start(hook, runner)
    step(hook, runner)
    logged = runner.visualizer.add_scalars.call_args.args[0]
    for (name, mask), (_, twin) in zip(
            named_masks(generator), named_masks(ema)):
        assert mask.num_pruned > 0
        assert torch.equal(mask.pruned, twin.pruned)
        assert logged[f'sparsity/{name}'] == mask.sparsity
    mean = runner.message_hub.log_scalars['train/sparsity'].current()
    assert 0 < mean <= 0.5
    runner.visualizer.reset_mock()
    step(hook, runner)
    step(hook, runner)
    assert runner.visualizer.add_scalars.call_count == 1, 'only when it changes'


@pytest.mark.parametrize('arguments, message', [
    (dict(alpha=1.0), r'alpha=1.0 must be in \[0, 1\)'),
    (dict(alpha=-0.1), 'alpha=-0.1'),
    (dict(alpha=0.5, schedule='quintic'), 'quintic.*threshold.*linear.*cubic'),
    (dict(alpha=0.5, interval=0), 'interval=0'),
    (dict(alpha=0.5, begin=5, end=5), 'begin=5.*end=5'),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_hook(**arguments)


def test_generator_without_masks_is_refused():
    plain = build_generator(dict(SAGAN, type='SAGANGenerator'))
    with pytest.raises(ValueError, match='no masks.*SNGANGenerator'):
        build_hook(alpha=0.5).before_run(runner_for(plain, 2))


def test_pruning_that_never_starts_is_refused():
    hook = build_hook(alpha=0.5, begin=10)
    with pytest.raises(ValueError, match='begin=10.*iteration 4'):
        start(hook, runner_for(build_generator(SAGAN), 4))


def prune_on_rank(rank, folder):
    """Ranks whose scores have come apart."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    generator = build_generator(SAGAN)
    torch.manual_seed(rank)
    with torch.no_grad():
        for _, mask in named_masks(generator):
            mask.weight.uniform_()
    hook = build_hook(alpha=0.5, schedule='linear', end=1)
    runner = runner_for(generator, 1)
    start(hook, runner)
    step(hook, runner)
    pruned = {name: mask.pruned for name, mask in named_masks(generator)}
    torch.save(pruned, f'{folder}/{rank}.pth')


@pytest.mark.slow
def test_every_rank_takes_the_masks_of_rank_0(tmp_path):
    torch.multiprocessing.spawn(prune_on_rank, (str(tmp_path), ), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    for name, pruned in first.items():
        assert pruned.sum() == len(pruned) // 2
        assert torch.equal(pruned, second[name])
