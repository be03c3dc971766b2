"""What the hooks do to masks and seeds, and when."""

import math
import random
from fractions import Fraction
from itertools import count
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import NOISE, SAGAN, build_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from runs import checkpoint_of, hooked_runner, logged_scalars, tiny_runner
from torch.testing._internal.distributed.fake_pg import FakeStore

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import mask_channels, named_masks
from ppcd_mmagic.registry import HOOKS


def runner_for(generator, max_iters=100, ema=None):
    model = SimpleNamespace(generator=generator)
    if ema is not None:
        model.generator_ema = SimpleNamespace(module=ema)
    return SimpleNamespace(
        model=model,
        max_iters=max_iters,
        iter=0,
        visualizer=Mock(),
        message_hub=MessageHub.get_instance('test_hooks'),
    )


def start(hook, runner):
    hook.before_run(runner)
    hook.before_train(runner)


def step(hook, runner):
    hook.after_train_iter(runner, runner.iter)
    runner.iter += 1


def build_hook(**kwargs):
    return HOOKS.build(dict(type='MaskBinarizationHook', **kwargs))


def generator_of(width):
    """Three masks of 2 * width channels, then three of width."""
    return build_generator(SAGAN, base_channels=width)


def masks_of(generator):
    return [mask for _, mask in named_masks(generator)]


def pruned_counts(generator):
    """Of the wide masks and the narrow ones, each of which are alike."""
    wide, narrow = (
        {m.num_pruned for m in masks}
        for masks in (masks_of(generator)[:3], masks_of(generator)[3:])
    )
    return (*wide, *narrow)


def set_scores(generator, scores):
    with torch.no_grad():
        for mask in masks_of(generator):
            mask.weight.copy_(torch.as_tensor(scores[: len(mask.weight)]))


def counts_after_each_iteration(generator, iterations, **arguments):
    hook, runner = build_hook(**arguments), runner_for(generator)
    start(hook, runner)
    counts = []
    for _ in range(iterations):
        step(hook, runner)
        counts.append(pruned_counts(generator))
    return counts


class TestMaskBinarization:
    """How many channels fall, when, and which."""

    def test_linear_schedule_counted_by_hand(self):
        """Masks of 10 and 5: half of them, in ten steps of 0.5 and 0.25."""
        assert counts_after_each_iteration(
            generator_of(5), 14, alpha=0.5, schedule='linear', begin=2, end=12
        ) == [
            (0, 0),
            (0, 0),
            (0, 0),
            (1, 0),
            (1, 0),
            (2, 1),
            (2, 1),
            (3, 1),
            (3, 1),
            (4, 2),
            (4, 2),
            (5, 2),
            (5, 2),
            (5, 2),
        ]

    def test_cubic_schedule_counted_by_hand(self):
        """6 and 3 channels times 91, 152, 189, 208, 215 and 216 of 216."""
        assert counts_after_each_iteration(
            generator_of(5), 8, alpha=0.6, schedule='cubic', begin=1, end=7
        ) == [(0, 0), (2, 1), (4, 2), (5, 2), (5, 2), (5, 2), (6, 3), (6, 3)]

    def test_interval_counts_from_begin_and_the_end_is_always_one(self):
        """Due are 5, 8 and the end, 10: at 3/8, 6/8 and 8/8 of 8 and 4."""
        assert counts_after_each_iteration(
            generator_of(5),
            12,
            alpha=0.8,
            schedule='linear',
            interval=3,
            begin=2,
            end=10,
        ) == ([(0, 0)] * 4 + [(3, 1)] * 3 + [(6, 3)] * 2 + [(8, 4)] * 3)

    def test_without_an_end_the_last_iteration_of_the_training_is_it(self):
        hook = build_hook(alpha=0.8, schedule='linear')
        generator = generator_of(5)
        runner = runner_for(generator, max_iters=4)
        start(hook, runner)
        counts = []
        for _ in range(4):
            step(hook, runner)
            counts.append(pruned_counts(generator))
        assert counts == [(2, 1), (4, 2), (6, 3), (8, 4)]

    @pytest.mark.parametrize('schedule', ['threshold', 'linear', 'cubic'])
    @pytest.mark.parametrize(
        'width, alpha, wide, narrow',
        [
            (45, 0.7, 63, 31),
            (50, 0.29, 29, 14),
            (50, 0.57, 57, 28),
            (50, 0.58, 58, 29),
            (5, 0.3, 3, 1),
            (5, 0.6, 6, 3),
            (5, 0.7, 7, 3),
            (5, 0.99, 9, 4),
        ],
    )
    def test_cap_loses_no_channel_to_rounding(
        self, schedule, width, alpha, wide, narrow
    ):
        """0.7 * 90 is 62.99999999999999, and 0.29 * 100 28.999999999999996."""
        assert counts_after_each_iteration(
            generator_of(width),
            2,
            alpha=alpha,
            schedule=schedule,
            threshold=2.0,
            end=2,
        )[-1] == (wide, narrow)

    @pytest.mark.parametrize(
        'schedule, formula',
        [('linear', lambda t: t), ('cubic', lambda t: 1 - (1 - t) ** 3)],
    )
    def test_schedules_are_exact_at_every_iteration(self, schedule, formula):
        """In fractions: alpha 0.6 of 10 in 30 steps is a whole number at
        every fifth, which floating point misses at some."""
        expected = [
            tuple(
                math.floor(Fraction(6, 10) * formula(Fraction(done, 30)) * c)
                for c in (10, 5)
            )
            for done in range(1, 31)
        ]
        assert (
            counts_after_each_iteration(
                generator_of(5), 30, alpha=0.6, schedule=schedule, end=30
            )
            == expected
        )

    def test_lowest_scores_fall_and_what_fell_stays(self):
        generator = generator_of(5)
        hook = build_hook(alpha=0.6, schedule='linear', end=3)
        runner = runner_for(generator)
        start(hook, runner)
        wide = masks_of(generator)[0]
        fallen = []
        for scores in (
            [0.9, 0.1, 0.8, -0.2, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
            [0.9, 9.0, 0.8, 9.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
            [0.0, 9.0, 0.1, 9.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
        ):
            set_scores(generator, scores)
            step(hook, runner)
            fallen.append(wide.pruned.nonzero().flatten().tolist())
        assert fallen == [[1, 3], [1, 3, 8, 9], [0, 1, 2, 3, 8, 9]]

    def test_equal_scores_fall_from_the_first(self):
        generator = generator_of(50)
        set_scores(generator, [1.0] * 100)
        counts_after_each_iteration(
            generator, 1, alpha=0.3, schedule='linear', end=1
        )
        assert (
            masks_of(generator)[0].pruned.tolist() == [True] * 30 + [False] * 70
        )

    def test_threshold_takes_what_is_at_or_below_it(self):
        generator = generator_of(5)
        set_scores(
            generator, [1.0, 0.3, 0.31, 0.29, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        )
        counts = counts_after_each_iteration(
            generator, 1, alpha=0.9, threshold=0.3
        )
        assert counts == [(3, 3)]
        assert masks_of(generator)[0].pruned.nonzero().flatten().tolist() == [
            1,
            3,
            4,
        ]

    def test_threshold_is_half_of_the_score_that_masks_start_with(self):
        generator = generator_of(5)
        set_scores(generator, [0.5, 0.51] + [1.0] * 8)
        assert counts_after_each_iteration(generator, 1, alpha=0.9) == [(1, 1)]

    def test_threshold_prunes_the_lowest_up_to_the_cap(self):
        generator = generator_of(5)
        set_scores(
            generator, [0.2, 0.1, 0.0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, -0.1]
        )
        counts_after_each_iteration(generator, 1, alpha=0.4, threshold=0.3)
        first, last = masks_of(generator)[0], masks_of(generator)[-1]
        assert first.pruned.nonzero().flatten().tolist() == [1, 2, 3, 9]
        assert last.pruned.nonzero().flatten().tolist() == [1, 2]

    def test_threshold_counts_what_was_pruned_and_has_risen_since(self):
        generator = generator_of(5)
        hook = build_hook(alpha=0.6, threshold=0.3)
        runner = runner_for(generator)
        start(hook, runner)
        set_scores(generator, [0.1, 0.1] + [1.0] * 8)
        step(hook, runner)
        set_scores(generator, [1.0, 1.0, 1.0, 0.2] + [1.0] * 6)
        step(hook, runner)
        assert masks_of(generator)[0].pruned.nonzero().flatten().tolist() == [
            0,
            1,
            3,
        ]

    def test_threshold_keeps_to_begin_interval_and_end(self):
        generator = generator_of(5)
        hook = build_hook(alpha=0.9, threshold=0.3, begin=1, interval=2, end=4)
        runner = runner_for(generator)
        start(hook, runner)
        counts = []
        for low in range(1, 7):
            set_scores(generator, [0.0] * low + [1.0] * (10 - low))
            step(hook, runner)
            counts.append(pruned_counts(generator)[0])
        assert counts == [0, 0, 3, 4, 4, 4]

    def test_removed_channels_still_count(self):
        """Of 10 channels 3 are gone, 2 of the 7 left are pruned: 6 leave one
        more to fall, and the cap is not 6 of 7."""
        generator = generator_of(5)
        hook = build_hook(alpha=0.6, schedule='linear', end=2)
        runner = runner_for(generator)
        start(hook, runner)
        mask = masks_of(generator)[0]
        step(hook, runner)
        assert mask.num_pruned == 3
        mask.keep((~mask.pruned).nonzero().flatten())
        mask.prune(5)
        step(hook, runner)
        assert (mask.num_pruned, int(mask.pruned.sum())) == (6, 3)
        assert mask.sparsity == 0.6

    def test_threshold_counts_removed_channels(self):
        generator = generator_of(5)
        hook = build_hook(alpha=0.5, threshold=0.3)
        runner = runner_for(generator)
        start(hook, runner)
        mask = masks_of(generator)[0]
        set_scores(generator, [0.0] * 3 + [1.0] * 7)
        step(hook, runner)
        mask.keep((~mask.pruned).nonzero().flatten())
        with torch.no_grad():
            mask.weight[:4] = 0
        step(hook, runner)
        assert (mask.num_pruned, int(mask.pruned.sum())) == (5, 2)

    def test_average_has_the_masks_of_the_generator_at_any_iteration(self):
        generator, ema = generator_of(5), generator_of(5)
        for mask in masks_of(ema):
            mask.prune(4)
        hook = build_hook(alpha=0.5, schedule='linear', begin=1, end=2)
        runner = runner_for(generator, ema=ema)
        start(hook, runner)
        for expected in ((0, 0), (5, 2)):
            step(hook, runner)
            assert pruned_counts(ema) == expected
            for mask, twin in zip(masks_of(generator), masks_of(ema)):
                assert torch.equal(mask.pruned, twin.pruned)

    def test_what_is_logged_is_what_was_pruned(self):
        generator = generator_of(5)
        hook = build_hook(
            alpha=0.5, schedule='linear', interval=2, begin=0, end=4
        )
        runner = runner_for(generator)
        start(hook, runner)
        means = []
        for _ in range(5):
            step(hook, runner)
            means.append(
                runner.message_hub.log_scalars['train/sparsity'].current()
            )
        # 2 of 10 and 1 of 5, then 5 and 2, in three masks of each
        assert means == pytest.approx([0, 9 / 45, 9 / 45, 21 / 45, 21 / 45])
        calls = runner.visualizer.add_scalars.call_args_list
        assert [call.kwargs['step'] for call in calls] == [2, 4]
        assert [set(call.args[0].values()) for call in calls] == [
            {0.2},
            {0.5, 0.4},
        ]
        assert calls[1].args[0]['sparsity/conv_blocks.0.conv_1'] == 0.5
        assert calls[1].args[0]['sparsity/conv_blocks.2.shortcut'] == 0.4
        assert len(calls[1].args[0]) == 6

    def test_resumed_run_logs_what_was_pruned_before(self):
        generator = generator_of(5)
        for mask in masks_of(generator):
            mask.prune(2)
        hook = build_hook(alpha=0.5, schedule='linear', begin=50)
        runner = runner_for(generator)
        start(hook, runner)
        step(hook, runner)
        assert runner.message_hub.log_scalars[
            'train/sparsity'
        ].current() == pytest.approx(12 / 45)

    def test_masks_of_single_blocks_are_linked_before_the_run(self):
        """A norm turns a zero channel into a constant of the class. Behind a
        block put into MMagic's generator only the hook cuts it off."""
        generator = build_generator(
            dict(
                SAGAN,
                type='SAGANGenerator',
                with_spectral_norm=False,
                blocks_cfg=dict(type='PPResSNGANGenResBlock'),
            )
        )
        build_hook(alpha=0.5).before_run(runner_for(generator))
        masks_of(generator)[0].prune(1)
        dead = masks_of(generator)[0].pruned
        norm = generator.conv_blocks[0].norm_2
        noise, label = torch.randn(2, 12), torch.tensor([0, 1])
        with torch.no_grad():
            before = generator(noise, label=label)
            norm.weight_embedding.weight[:, dead] += 100
            norm.bias_embedding.weight[:, dead] += 100
            after = generator(noise, label=label)
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@given(
    alpha=st.floats(0, 0.99),
    schedule=st.sampled_from(['threshold', 'linear', 'cubic']),
    interval=st.integers(1, 5),
    begin=st.integers(0, 5),
    length=st.integers(1, 12),
    multiple_of=st.sampled_from([1, 1, 3, 4]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_invariants_under_random_schedules(
    alpha, schedule, interval, begin, length, multiple_of, seed
):
    generator = build_generator(SAGAN)
    torch.manual_seed(seed)
    hook = build_hook(
        alpha=alpha,
        schedule=schedule,
        interval=interval,
        begin=begin,
        end=begin + length,
        multiple_of=multiple_of,
    )
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
            living = mask.channels - mask.num_pruned
            assert living % multiple_of == 0 or living == mask.channels
            if frozen:
                assert torch.equal(mask.pruned, before[name])
            before[name] = mask.pruned.clone()
    if schedule != 'threshold':
        for mask in masks.values():
            cap = math.floor(round(alpha * mask.channels, 6))
            least = mask.channels - min(cap, mask.channels - 1)
            least = math.ceil(least / multiple_of) * multiple_of
            assert mask.channels - mask.num_pruned == min(least, mask.channels)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(alpha=1.0), r'alpha=1.0 must be in \[0, 1\)'),
        (dict(alpha=-0.1), 'alpha=-0.1'),
        (
            dict(alpha=0.5, schedule='quintic'),
            'quintic.*threshold.*linear.*cubic',
        ),
        (dict(alpha=0.5, interval=0), 'interval=0'),
        (dict(alpha=0.5, begin=-1), 'begin=-1'),
        (dict(alpha=0.5, begin=5, end=5), 'begin=5.*end=5'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_hook(**arguments)


def test_generator_without_masks_is_refused():
    plain = build_generator(dict(SAGAN, type='SAGANGenerator'))
    with pytest.raises(ValueError, match='no masks.*SNGANGenerator'):
        build_hook(alpha=0.5).before_run(runner_for(plain, 2))


@pytest.mark.parametrize('begin', [4, 10])
def test_pruning_that_never_starts_is_refused(begin):
    hook = build_hook(alpha=0.5, begin=begin)
    with pytest.raises(ValueError, match=f'begin={begin}.*iteration 4'):
        start(hook, runner_for(build_generator(SAGAN), 4))


def test_pruning_that_starts_at_the_last_iteration_is_not_refused():
    start(
        build_hook(alpha=0.5, begin=3),
        runner_for(build_generator(SAGAN), max_iters=4),
    )


BINARIZATION = dict(
    type='MaskBinarizationHook', alpha=0.6, schedule='cubic', begin=2, end=6
)
# of masks of 10 and 5 after each iteration: 6 and 3, times 1 - (1 - t)^3
CUBIC = [(0, 0), (0, 0), (3, 1), (5, 2), (5, 2), (6, 3), (6, 3), (6, 3)]


class Witness(Hook):
    """Notes the scores of all masks as training has left them."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.scores = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.scores.append(
            {
                f'generator.{name}.conv.mask': mask.weight.detach().clone()
                for name, mask in named_masks(runner.model.generator)
            }
        )


@pytest.fixture(scope='module')
def masked_run(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('masked_run')
    witness = Witness()
    runner = hooked_runner(work_dir, BINARIZATION)
    runner.register_hook(witness)
    runner.train()
    return SimpleNamespace(work_dir=work_dir, scores=witness.scores)


@pytest.fixture(scope='module')
def shrinking_run(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('shrinking_run')
    # after what it must follow although it is named first
    hooked_runner(
        work_dir, dict(type='ShrinkHook', interval=3), BINARIZATION
    ).train()
    return SimpleNamespace(work_dir=work_dir)


class TestUnderARealRunner:
    """Hooks among those of MMEngine: who comes first."""

    @pytest.mark.parametrize('part', ['generator', 'generator_ema.module'])
    def test_checkpoint_holds_the_masks_of_its_own_iteration(
        self, masked_run, part
    ):
        for iteration, expected in enumerate(CUBIC, start=1):
            state = checkpoint_of(masked_run.work_dir, iteration)['state_dict']
            pruned = [
                (len(value), int(value.sum()))
                for key, value in state.items()
                if key.startswith(f'{part}.') and key.endswith('mask.pruned')
            ]
            wide, narrow = expected
            assert pruned == [(10, wide)] * 2 + [(5, narrow)] * 2, iteration

    def test_the_lowest_scores_of_that_very_iteration_have_fallen(
        self, masked_run
    ):
        """Iteration 3 is the first at which any fall."""
        state = checkpoint_of(masked_run.work_dir, 3)['state_dict']
        for name, scores in masked_run.scores[2].items():
            pruned = state[f'{name}.pruned']
            assert pruned.any()
            assert scores[pruned].max() <= scores[~pruned].min()

    def test_removal_comes_after_the_pruning_of_the_same_iteration(
        self, shrinking_run
    ):
        """At 3 and 6 all that is pruned leaves; at 4 and 5 nothing does."""
        sizes = []
        for iteration in range(1, 9):
            state = checkpoint_of(shrinking_run.work_dir, iteration)[
                'state_dict'
            ]
            masks = [
                state[f'generator.conv_blocks.{block}.conv_1.conv.mask.pruned']
                for block in (0, 2)
            ]
            sizes.append(tuple((len(mask), int(mask.sum())) for mask in masks))
        assert sizes == [
            ((10, 0), (5, 0)),
            ((10, 0), (5, 0)),
            ((7, 0), (4, 0)),
            ((7, 2), (4, 1)),
            ((7, 2), (4, 1)),
            ((4, 0), (2, 0)),
            ((4, 0), (2, 0)),
            ((4, 0), (2, 0)),
        ]

    def test_layers_average_and_optimizer_have_the_sizes_of_the_masks(
        self, shrinking_run
    ):
        checkpoint = checkpoint_of(shrinking_run.work_dir, 7)
        state = checkpoint['state_dict']
        for part in ('generator', 'generator_ema.module'):
            block = f'{part}.conv_blocks.0'
            assert state[f'{block}.conv_1.conv.weight_orig'].shape == (
                4,
                10,
                3,
                3,
            )
            assert state[f'{block}.conv_2.conv.weight_orig'].shape == (
                4,
                4,
                3,
                3,
            )
            assert state[
                f'{part}.conv_blocks.2.conv_1.conv.weight_orig'
            ].shape == (2, 4, 3, 3)
        moments = checkpoint['optimizer']['generator']['state'].values()
        assert sorted(tuple(m['exp_avg'].shape) for m in moments) == sorted(
            tuple(value.shape)
            for key, value in state.items()
            if key.startswith('generator.')
            and key.rsplit('.')[-1]
            in ('weight', 'bias', 'weight_orig', 'gamma')
            and not (key.endswith('.weight') and f'{key}_orig' in state)
        )

    @pytest.mark.parametrize('run', ['masked_run', 'shrinking_run'])
    def test_log_says_what_the_checkpoint_holds(self, run, request):
        lines = logged_scalars(request.getfixturevalue(run).work_dir)
        means = [line['sparsity'] for line in lines if 'sparsity' in line]
        assert means == pytest.approx(
            [(2 * wide + 2 * narrow) / 30 for wide, narrow in CUBIC]
        )
        single = {
            line['step']: (
                line['sparsity/conv_blocks.0.conv_1'],
                line['sparsity/conv_blocks.2.conv_2'],
            )
            for line in lines
            if 'sparsity/conv_blocks.0.conv_1' in line
        }
        assert single == {3: (0.3, 0.2), 4: (0.5, 0.4), 6: (0.6, 0.6)}


def draws(runner_iter, seed=7):
    """What each library draws after the hook has seeded it."""
    hook = HOOKS.build(dict(type='IterSeedHook'))
    hook.before_train_iter(SimpleNamespace(seed=seed, iter=runner_iter), 0)
    return (random.random(), float(np.random.rand()), float(torch.rand(())))


@pytest.fixture
def as_rank():
    """Take part in a distributed training as a given rank."""

    def join(rank):
        leave()
        torch.distributed.init_process_group(
            'fake', store=FakeStore(), rank=rank, world_size=8
        )

    def leave():
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    yield join
    leave()


class TestIterSeed:
    def test_each_iteration_rank_and_run_has_numbers_of_its_own(self, as_rank):
        """Not as with a sum of seeds, where rank 1 draws at one iteration
        what rank 0 draws at the next."""
        seen = []
        for rank in range(3):
            as_rank(rank)
            seen += [
                draws(iteration, seed)
                for seed in range(3)
                for iteration in range(20)
            ]
        for library in zip(*seen):
            assert len(set(library)) == 3 * 3 * 20

    def test_same_iteration_draws_the_same_whatever_was_drawn_before(self):
        first = draws(5)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        assert draws(5) == first

    def test_data_are_read_with_numbers_of_their_own_each_iteration(self):
        def read(iteration):
            drawn = (
                (
                    random.random(),
                    float(np.random.rand()),
                    float(torch.rand(())),
                )
                for _ in count()
            )
            loop = SimpleNamespace(
                dataloader_iterator=drawn,
                dataloader=SimpleNamespace(num_workers=0),
            )
            HOOKS.build(dict(type='IterSeedHook')).before_train(
                SimpleNamespace(seed=7, iter=iteration, train_loop=loop)
            )
            return next(loop.dataloader_iterator)

        assert read(5) == read(5)
        for library in zip(read(5), read(6), draws(5), draws(6)):
            assert len(set(library)) == 4

    def test_run_without_a_seed_is_seeded_as_well(self):
        assert draws(3, seed=None) == draws(3, seed=None)
        assert draws(3, seed=None) != draws(4, seed=None)


SEARCHED = dict(SAGAN, base_channels=8, residual_masks='shared')


def multiply_adds(first, second, third, fourth):
    """Of the convolutions, by the channels left: conv_1 of the first block,
    its residual stream, conv_1 of the second block, its residual stream.

    Dense they are 16, 16, 8 and 8. Attention reads 16 channels into 2, 2 and
    8 at 8 x 8 pixels and writes the stream from the 8; the image has 3.
    """
    at_8 = (
        9 * 16 * first
        + 9 * first * second
        + 16 * second
        + (2 + 2 + 8) * second
        + 8 * second
    )
    at_16 = (
        9 * second * third
        + 9 * third * fourth
        + second * fourth
        + 9 * fourth * 3
    )
    from_noise = NOISE * 16 * 4 * 4
    # each query with each of the 4 x 4 keys, and so many values
    attention = (2 + 8) * 4**2 * 8**2
    return at_8 * 8**2 + at_16 * 16**2 + from_noise + attention


def cost(*kept):
    return multiply_adds(*kept) / multiply_adds(16, 16, 8, 8)


def kept_of(generator):
    """Channels that each mask keeps, which must be its first ones."""
    kept = []
    for mask in masks_of(generator):
        count = int((~mask.pruned).sum())
        assert mask.pruned.tolist() == [False] * count + [True] * (
            len(mask.pruned) - count
        )
        kept.append(count)
    return tuple(kept)


class Search:
    """A runner whose validation gives the values that a test chooses."""

    def __init__(self, values=(), with_average=True, **arguments):
        self.generator = build_generator(SEARCHED)
        self.tested = self.generator
        self.model = SimpleNamespace(generator=self.generator)
        if with_average:
            self.tested = build_generator(SEARCHED)
            self.model.generator_ema = SimpleNamespace(module=self.tested)
        self.hook = HOOKS.build(dict(type='OnceForAllHook', **arguments))
        self.values = iter(values)
        metrics = [SimpleNamespace(prefix='domain')]
        self.val_loop = SimpleNamespace(
            run=self.validate, evaluator=SimpleNamespace(metrics=metrics)
        )
        self.logger = Mock()
        self.work_dir, self.iter, self.max_iters = 'work_dir', 30, 30
        self.validated, self.saved = [], []
        random.seed(0)

    def validate(self):
        self.validated.append(kept_of(self.tested))
        self.hook.after_val_epoch(self, {self.hook.metric: next(self.values)})

    def save_checkpoint(self, folder, name, by_epoch):
        self.saved.append(
            (
                folder,
                name,
                by_epoch,
                kept_of(self.generator),
                kept_of(self.tested),
            )
        )

    def run(self):
        self.hook.before_train(self)
        self.hook.after_train(self)
        return self


def searched_on_images():
    """A search in a generator from images to images."""
    search = Search([1.0], with_average=False, budget=1.0, candidates=1)
    torch.manual_seed(0)
    generator = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 3, 3),
    )
    mask_channels(generator, torch.zeros(2, 3, 8, 8))
    generator.input_shape = (3, 8, 8)
    search.generator = search.tested = search.model.generator = generator
    return search


class TestShortHistory:
    def losses(self, work_dir, length):
        """Those kept at the end of six iterations, and those in the
        checkpoint."""
        runner = tiny_runner(
            work_dir,
            log_processor__window_size=3,
            default_hooks__short_history__length=length,
        )
        runner.train()
        saved = torch.load(work_dir / 'iter_6.pth', weights_only=False)
        hubs = (
            runner.message_hub.log_scalars,
            saved['message_hub']['log_scalars'],
        )
        return [hub['train/loss_cd'].data[0].tolist() for hub in hubs]

    def test_the_last_values_are_kept_and_saved(self, tmp_path):
        everything, _ = self.losses(tmp_path / 'long', 10000)
        kept, saved = self.losses(tmp_path / 'short', 3)
        assert len(set(everything)) == 6
        assert kept == saved == everything[-3:]

    def test_values_of_validations_are_all_kept(self):
        hub = MessageHub.get_instance('test_short_history')
        runner = SimpleNamespace(message_hub=hub)
        hook = HOOKS.build(dict(type='ShortHistoryHook', length=2))
        for value in range(5):
            for name in ('train/loss', 'val/frechet'):
                hub.update_scalar(name, value)
            hook.after_train_iter(runner, value)
        assert hub.get_scalar('train/loss').data[0].tolist() == [3, 4]
        assert hub.get_scalar('val/frechet').data[0].tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        'settings, window',
        [
            (dict(log_processor__window_size=11), '11'),
            (
                dict(
                    log_processor__custom_cfg=[
                        dict(
                            data_src='loss_cd',
                            method_name='max',
                            log_name='worst',
                            window_size='global',
                        )
                    ]
                ),
                'global',
            ),
        ],
    )
    def test_means_over_more_are_refused(self, tmp_path, settings, window):
        runner = tiny_runner(
            tmp_path, default_hooks__short_history__length=10, **settings
        )
        with pytest.raises(PPCDError, match=f'window_size={window}.*length'):
            runner.train()

    def test_nothing_is_kept_by_no_length(self):
        with pytest.raises(PPCDError, match='length=0 must be'):
            HOOKS.build(dict(type='ShortHistoryHook', length=0))


@pytest.mark.parametrize('name', ['visualization', 'logger'])
def test_none_switches_a_hook_off(tmp_path, name):
    kinds = [
        {type(hook).__name__ for hook in runner.hooks}
        for runner in (
            tiny_runner(tmp_path),
            tiny_runner(tmp_path, **{f'default_hooks__{name}': None}),
        )
    ]
    assert kinds[0] - kinds[1] == {f'{name.title()}Hook'}


class TestOnceForAll:
    """Sub-networks while training, and the search after it."""

    def test_sub_networks_differ_and_use_every_width(self):
        search = Search(budget=1.0)
        seen = []
        for iteration in range(300):
            search.hook.before_train_iter(search, iteration)
            seen.append(kept_of(search.generator))
        wide, narrow = {4, 6, 8, 12, 16}, {2, 3, 4, 6, 8}
        assert [set(kept) for kept in zip(*seen)] == [
            wide,
            wide,
            narrow,
            narrow,
        ]
        # 1 of 625 is the same as the one before
        assert sum(a == b for a, b in zip(seen, seen[1:])) < 5
        assert len({kept[:2] for kept in seen}) == 25, 'each mask by itself'

    def test_no_mask_loses_its_last_channel(self):
        search = Search(budget=1.0, widths=(0.01,))
        search.hook.before_train_iter(search, 0)
        assert kept_of(search.generator) == (1, 1, 1, 1)

    @pytest.mark.parametrize(
        'arguments', [dict(widths=()), dict(candidates=0), dict(candidates=-1)]
    )
    def test_a_search_of_nothing_is_refused(self, arguments):
        with pytest.raises(PPCDError, match=f'^{[*arguments][0]}='):
            HOOKS.build(dict(type='OnceForAllHook', budget=0.5, **arguments))

    def test_budget_is_that_of_the_multiply_adds_counted_by_hand(self):
        least = cost(8, 8, 4, 4)
        accepted = Search(widths=(0.5, 1.0), budget=least + 1e-4)
        accepted.hook.before_train(accepted)
        refused = Search(widths=(0.5, 1.0), budget=least - 1e-4)
        with pytest.raises(ValueError, match=f'{least:.3f} of the'):
            refused.hook.before_train(refused)

    def test_candidates_are_the_costliest_within_the_budget_each_once(self):
        within = sorted(
            (cost(a, b, c, d), (a, b, c, d))
            for a in (8, 16)
            for b in (8, 16)
            for c in (4, 8)
            for d in (4, 8)
            if cost(a, b, c, d) <= 0.7
        )
        assert 4 < len(within) < 16
        search = Search(
            range(4), widths=(0.5, 1.0), budget=0.7, candidates=4
        ).run()
        assert search.validated == [kept for _, kept in within[:-5:-1]]

    @pytest.mark.parametrize('with_average', [True, False])
    def test_the_lowest_value_wins_and_is_saved(self, with_average):
        search = Search(
            [3.0, 1.0, 2.0],
            with_average,
            widths=(0.5, 1.0),
            budget=0.8,
            candidates=3,
        ).run()
        best = search.validated[1]
        assert len(set(search.validated)) == 3
        assert search.saved == [('work_dir', 'iter_30.pth', False, best, best)]

    def test_a_value_that_is_no_number_never_wins(self):
        search = Search(
            [float('nan'), 2.0, float('nan')],
            widths=(0.5, 1.0),
            budget=0.8,
            candidates=3,
        ).run()
        assert search.saved[0][3] == search.validated[1]

    def test_a_search_without_any_number_says_so(self):
        search = Search(
            [float('nan')] * 3, widths=(0.5, 1.0), budget=0.8, candidates=3
        )
        with pytest.raises(PPCDError, match='domain/frechet.*nan'):
            search.run()
        assert not search.saved

    def test_a_metric_that_is_not_measured_is_named(self):
        search = Search([1.0], budget=0.8)
        search.val_loop.run = lambda: search.hook.after_val_epoch(
            search, {'domain/accuracy': 1.0}
        )
        with pytest.raises(
            PPCDError, match='"domain/frechet".*domain/accuracy'
        ):
            search.run()

    @pytest.mark.parametrize(
        'families, found',
        [(['FID-Full-50k', 'IS-50k'], 'FID-Full-50k/, IS-50k/'), ([], 'no m')],
    )
    def test_what_no_metric_can_give_is_named_before_training(
        self, families, found
    ):
        search = Search(budget=0.8)
        search.val_loop.evaluator.metrics = [
            SimpleNamespace(prefix=family) for family in families
        ]
        with pytest.raises(PPCDError, match=f'"domain/frechet".*{found}'):
            search.hook.before_train(search)

    @pytest.mark.parametrize('family', [None, ''])  # PSNR's and SAD's
    def test_a_metric_without_a_family_may_give_any_name(self, family):
        search = Search(budget=0.8, metric='PSNR')
        search.val_loop.evaluator.metrics.append(SimpleNamespace(prefix=family))
        search.hook.before_train(search)

    def test_a_validation_of_several_data_sets_may_measure_nothing(self):
        search = Search(budget=0.8)
        search.val_loop = SimpleNamespace(
            evaluators=[SimpleNamespace(metrics=None)]
        )
        with pytest.raises(PPCDError, match='it has no metrics'):
            search.hook.before_train(search)

    def test_eight_sub_networks_are_evaluated_if_nothing_else_is_said(self):
        assert len(Search(range(20), budget=1.0).run().validated) == 8

    def test_whole_network_is_within_a_budget_of_one(self):
        search = Search([1.0], widths=(1.0,), budget=1.0).run()
        assert search.validated == [(16, 16, 8, 8)]

    def test_of_equal_values_the_costliest_wins(self):
        search = Search(
            [2.0, 1.0, 1.0], widths=(0.5, 1.0), budget=0.8, candidates=3
        ).run()
        assert search.saved[0][3] == search.validated[1]

    def test_search_leaves_spectral_norm_as_the_training_left_it(self):
        search = Search([1.0], budget=0.8, candidates=1)
        search.tested.train()
        vectors = {
            name: vector.clone()
            for name, vector in search.tested.named_buffers()
            if name.endswith(('_u', '_v'))
        }
        search.run()
        after = dict(search.tested.named_buffers())
        assert vectors
        for name, vector in vectors.items():
            assert torch.equal(after[name], vector), name

    @pytest.mark.parametrize(
        'arguments, message',
        [
            (dict(budget=0.0), 'budget=0.0'),
            (dict(budget=1.1), 'budget=1.1'),
            (dict(budget=0.5, widths=[0.0, 1.0]), 'widths=.*0.0'),
            (dict(budget=0.5, widths=[0.5, 1.1]), 'widths=.*1.1'),
        ],
    )
    def test_budget_and_widths_are_fractions(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            HOOKS.build(dict(type='OnceForAllHook', **arguments))

    def test_of_several_generators_none_is_searched(self):
        search = Search(budget=0.8)
        del search.model.generator
        search.model.generators = torch.nn.ModuleDict(
            dict(photo=search.generator, mask=build_generator(SEARCHED))
        )
        with pytest.raises(PPCDError, match='generators.photo, generators.m'):
            search.hook.before_train(search)

    def test_norms_get_the_statistics_of_the_sub_network(self):
        """The mean over batches of their means and unbiased variances, of
        what each norm was given while the best was calibrated."""
        search = Search([1.0], budget=0.5, candidates=1)
        given, called = {}, []
        norms = {
            name: norm
            for name, norm in search.tested.named_modules()
            if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm)
        }
        momenta = {name: norm.momentum for name, norm in norms.items()}
        for name, norm in norms.items():
            norm.register_forward_pre_hook(
                lambda norm, args, name=name: given.setdefault(name, []).append(
                    args[0].detach().double()
                )
            )
        search.tested.register_forward_pre_hook(
            lambda _, args, kwargs: called.append((args[0], kwargs['label'])),
            with_kwargs=True,
        )
        search.run()
        assert len(norms) == 5
        for name, norm in norms.items():
            last = given[name][-8:]
            mean = torch.stack([x.mean((0, 2, 3)) for x in last]).mean(0)
            var = torch.stack(
                [
                    x.transpose(0, 1).flatten(1).var(1, unbiased=True)
                    for x in last
                ]
            ).mean(0)
            torch.testing.assert_close(
                norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(
                norm.running_var.double(), var, rtol=1e-4, atol=1e-5
            )
            assert norm.momentum == momenta[name] and not norm.training
        noise = torch.stack([noise for noise, _ in called[-8:]])
        assert noise.shape == (8, 64, 12)
        assert abs(float(noise.mean())) < 0.1
        assert float(noise.std()) == pytest.approx(1, abs=0.1)
        labels = torch.cat([label for _, label in called[-8:]])
        assert set(labels.bincount().gt(50).tolist()) == {True}
        assert labels.max() == 4

    def test_norms_of_what_takes_images_see_those_of_the_training(self):
        """The last 256 of them, and not noise: they are bright and blue."""
        search = searched_on_images()
        batches = [
            torch.rand(64, 3, 8, 8) * 0.1
            + torch.tensor([0.1, 0.5, 0.9 + i / 90]).view(3, 1, 1)
            for i in range(6)
        ]
        search.max_iters = len(batches)
        search.hook.before_train(search)
        for search.iter, images in enumerate(batches):
            search.hook.before_train_iter(search, search.iter)
            with torch.no_grad():
                search.generator(images + 7)  # no step depends on it
            search.generator(images)
            search.hook.after_train_iter(search, search.iter)
            search.generator(images + 7)  # another hook's
        search.hook.after_train(search)
        conv, norm = search.tested[:2]
        with torch.no_grad():
            given = [conv(images).double() for images in batches[-4:]]
        mean = torch.stack([x.mean((0, 2, 3)) for x in given]).mean(0)
        var = torch.stack(
            [x.transpose(0, 1).flatten(1).var(1) for x in given]
        ).mean(0)
        torch.testing.assert_close(
            norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            norm.running_var.double(), var, rtol=1e-4, atol=1e-5
        )
        # as before the training: it would keep all images
        assert not search.generator._forward_pre_hooks

    def test_a_search_without_images_to_calibrate_by_says_so(self):
        search = searched_on_images()
        with pytest.raises(PPCDError, match='calibrates norms.*were none'):
            search.run()
        assert not search.validated

    def test_checking_the_budget_leaves_the_generator_as_it_was(self):
        search = Search(budget=0.8)

        def hooks():
            return [
                len(module._forward_hooks)
                for module in search.generator.modules()
            ]

        before = hooks()
        for training in (True, False):
            search.generator.train(training)
            search.hook.before_train(search)
            assert search.generator.training is training
        assert hooks() == before
