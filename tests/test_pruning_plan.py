"""Widths that are multiples, and a budget for the whole network."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
from conftest import BIGGAN, SAGAN, build_generator
from test_hooks import (
    build_hook,
    generator_of,
    masks_of,
    runner_for,
    start,
    step,
)
from test_shrinking import Run

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import (
    complexity,
    discard_channels,
    link_masks,
    mask_channels,
    named_masks,
    remaining_complexity,
)
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS

WIDE_SAGAN = dict(SAGAN, base_channels=48)
WIDE_BIGGAN = dict(
    BIGGAN,
    arch_cfg=dict(
        BIGGAN['arch_cfg'], in_channels=[128, 128], out_channels=[128, 96]
    ),
)
UNET = dict(
    type='MaskedGenerator',
    input_shape=(3, 32, 32),
    generator=dict(
        type='UnetGenerator',
        in_channels=3,
        out_channels=3,
        num_down=5,
        base_channels=16,
        norm_cfg=dict(type='BN'),
        use_dropout=True,
        init_cfg=dict(type='normal', gain=0.02),
    ),
)
EDSR = dict(
    type='MaskedGenerator',
    input_shape=(3, 8, 8),
    generator=dict(
        type='EDSRNet',
        in_channels=3,
        out_channels=3,
        mid_channels=64,
        num_blocks=4,
        upscale_factor=2,
    ),
)
GENERATORS = {
    'SAGAN': WIDE_SAGAN,
    'SAGAN, shared': dict(WIDE_SAGAN, residual_masks='shared'),
    'BigGAN': WIDE_BIGGAN,
    'pix2pix': UNET,
    'EDSR': EDSR,
    'EDSR, tied': dict(EDSR, tie=True),
}


def built(name):
    config = GENERATORS[name]
    if 'generator' not in config:
        return build_generator(config)
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(config)).eval()


def move_scores(generator, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for mask in masks_of(generator):
            mask.weight.add_(torch.randn_like(mask.weight) * 0.3)


def living(generator):
    return {
        name: mask.channels - mask.num_pruned
        for name, mask in named_masks(generator)
    }


def pruned_of(generator):
    return {name: mask.pruned.clone() for name, mask in named_masks(generator)}


def exported(generator):
    return discard_channels(generator, example_inputs(generator))


def complexity_of(generator):
    return complexity(generator, example_inputs(generator, batch=1))


def train(generator, iterations=4, first=0, **arguments):
    """Scores move, and the hook prunes; the states of the masks."""
    hook, runner = build_hook(**arguments), runner_for(generator, 100)
    runner.iter = first
    start(hook, runner)
    states = []
    for _ in range(iterations):
        move_scores(generator, runner.iter)
        step(hook, runner)
        states.append(pruned_of(generator))
    return states


class TestMultiples:
    def test_widths_counted_by_hand(self):
        """A ninth of 54 of 90 channels, and of 27 of 45, may fall at a time:
        84, 78, 72, ... and 42, 39, 36, ... are left, rounded up."""
        generator = generator_of(45)
        hook, runner = (
            build_hook(alpha=0.6, schedule='linear', end=9, multiple_of=8),
            runner_for(generator),
        )
        start(hook, runner)
        widths = []
        for _ in range(9):
            step(hook, runner)
            widths.append(tuple(dict.fromkeys(living(generator).values())))
        assert widths == [
            (88, 45),
            (80, 40),
            (72, 40),
            (72, 40),
            (64, 32),
            (56, 32),
            (48, 24),
            (48, 24),
            (40, 24),
        ]

    def test_no_mask_has_less_than_one_multiple(self):
        """Of 16 and 8 channels 14 and 7 might fall."""
        generator = generator_of(8)
        train(generator, alpha=0.9, schedule='linear', end=2, multiple_of=8)
        assert set(living(generator).values()) == {8}

    def test_nothing_falls_where_alpha_reaches_no_multiple(self):
        """Of 10 and 5 channels 1 and 0 may fall, 8 and 4 would be left."""
        generator = generator_of(5)
        train(generator, alpha=0.1, schedule='linear', end=2, multiple_of=4)
        assert set(living(generator).values()) == {10, 5}

    @pytest.mark.parametrize('name', ['SAGAN', 'pix2pix', 'EDSR'])
    def test_exported_widths_are_multiples_at_every_iteration(self, name):
        generator = built(name)
        image = [
            n
            for n, conv in generator.named_modules()
            if getattr(conv, 'out_channels', 0) == 3
        ]
        hook = build_hook(alpha=0.7, schedule='linear', end=4, multiple_of=8)
        runner = runner_for(generator)
        start(hook, runner)
        found = []
        for iteration in range(4):
            move_scores(generator, iteration)
            step(hook, runner)
            widths = {
                n: conv.out_channels
                for n, conv in exported(generator).named_modules()
                if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
                and n not in image
                # what attention asks with and answers is not masked
                and not n.endswith(('theta.conv', 'phi.conv', 'g.conv'))
            }
            assert all(width % 8 == 0 for width in widths.values()), widths
            found.append(sum(widths.values()))
            short = {n.removesuffix('.conv'): w for n, w in widths.items()}
            assert all(
                short[n] == count for n, count in living(generator).items()
            )
        assert found == sorted(found, reverse=True) and found[0] > found[-1]

    def test_the_lowest_fall_and_both_masks_of_a_sum_agree(self):
        """A channel with a score in two masks counts by the higher one."""
        generator = generator_of(8)
        masks = dict(named_masks(generator))
        stream = [
            masks['conv_blocks.0.conv_2'],
            masks['conv_blocks.0.shortcut'],
        ]
        with torch.no_grad():
            for mask in stream:
                mask.weight.fill_(1)
            stream[0].weight[[1, 3, 5, 7, 9]] = 0.1
            stream[1].weight[[1, 3, 5, 7, 11]] = 0.1
        hook = build_hook(alpha=0.3, schedule='linear', end=1, multiple_of=4)
        runner = runner_for(generator)
        start(hook, runner)
        step(hook, runner)
        for mask in stream:
            assert mask.pruned.nonzero().flatten().tolist() == [1, 3, 5, 7]

    def test_threshold_rounds_down_what_falls(self):
        generator = generator_of(8)
        hook = build_hook(alpha=0.9, threshold=0.3, multiple_of=4)
        runner = runner_for(generator)
        start(hook, runner)
        with torch.no_grad():
            for mask in masks_of(generator):
                mask.weight.fill_(1)
                mask.weight[:7] = 0.2
        step(hook, runner)
        assert [mask.num_pruned for mask in masks_of(generator)] == [4] * 6

    def test_masks_whose_channels_stay_have_multiples_too(self):
        """Without a mask on the shortcut no channel of the sum can leave."""
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 3))
        net.input_shape = (3, 8, 8)
        mask_channels(net, example_inputs(net))
        net.__class__ = _Pinned
        train(net, alpha=0.6, schedule='linear', end=2, multiple_of=4)
        assert set(living(net).values()) == {8}


class _Pinned(nn.Sequential):
    """Each channel depends on all."""

    def forward(self, x):
        x = self[1](self[0](x))
        return self[2](x - x.mean(1, keepdim=True))


@pytest.mark.parametrize('kind', ['multiply_adds', 'parameters'])
@pytest.mark.parametrize('name', GENERATORS)
def test_budget_is_met_to_one_percent_by_the_exported_network(name, kind):
    generator = built(name)
    move_scores(generator, 7)
    dense = complexity_of(exported(generator))[kind]
    train(generator, end=3, schedule='linear', budget={kind: 0.4})
    slim = complexity_of(exported(generator))
    assert 0.99 * 0.4 * dense <= slim[kind] <= 0.4 * dense
    channels = link_masks(generator, example_inputs(generator))
    assert remaining_complexity(channels) == slim


class TestBudget:
    def test_number_of_parameters_is_one_as_well(self):
        generator = built('SAGAN')
        train(generator, end=1, budget=dict(parameters=150_000))
        left = complexity_of(exported(generator))['parameters']
        assert 148_500 <= left <= 150_000

    def test_no_mask_loses_more_than_alpha(self):
        generator = built('SAGAN')
        with torch.no_grad():  # one layer seems worth nothing but a channel
            masks_of(generator)[0].weight[1:] = 1e-3
        train(
            generator,
            iterations=2,
            end=2,
            alpha=0.55,
            budget=dict(multiply_adds=0.5),
        )
        for mask in masks_of(generator):
            assert mask.num_pruned <= math.floor(0.55 * mask.channels)
        assert masks_of(generator)[0].num_pruned == math.floor(0.55 * 96)

    def test_what_is_left_follows_the_schedule(self):
        generator = built('SAGAN')
        dense = complexity_of(exported(generator))['multiply_adds']
        hook = build_hook(
            begin=1,
            end=7,
            interval=2,
            schedule='cubic',
            budget=dict(multiply_adds=0.3),
        )
        runner = runner_for(generator)
        start(hook, runner)
        left = []
        for iteration in range(8):
            step(hook, runner)
            left.append(
                complexity_of(exported(generator))['multiply_adds'] / dense
            )
        # 1 - .7 * (1 - (1 - t)^3) at t = 1/3, 2/3 and 1
        wanted = (
            [1, 1]
            + [1 - 0.7 * 19 / 27] * 2
            + [1 - 0.7 * 26 / 27] * 2
            + [0.3, 0.3]
        )
        for found, most in zip(left, wanted):
            assert most - 0.01 <= found <= most

    def test_what_fell_stays_and_in_each_layer_the_lowest_fall(self):
        generator = built('SAGAN, shared')
        hook = build_hook(end=4, schedule='linear', budget=dict(parameters=0.4))
        runner = runner_for(generator)
        start(hook, runner)
        before = pruned_of(generator)
        for iteration in range(4):
            move_scores(generator, iteration)
            step(hook, runner)
            for name, mask in named_masks(generator):
                assert bool((mask.pruned | ~before[name]).all())
                new = mask.pruned & ~before[name]
                if iteration < 3 and new.any():
                    assert (
                        mask.weight[new].max()
                        <= mask.weight[~mask.pruned].min()
                    )
            before = pruned_of(generator)

    def test_layer_with_weak_channels_gives_them_first(self):
        """All that are weak together make less than is to be removed."""
        generator = built('SAGAN, shared')
        with torch.no_grad():
            for mask in masks_of(generator):
                mask.weight.fill_(1)
            masks_of(generator)[0].weight[10:40] = 0.2
        hook = build_hook(end=1, budget=dict(multiply_adds=0.8))
        runner = runner_for(generator)
        start(hook, runner)
        step(hook, runner)
        weak = masks_of(generator)[0].pruned[10:40]
        assert (
            weak.sum() == 30
            or masks_of(generator)[0].num_pruned == int(weak.sum())
            and not any(m.num_pruned for m in masks_of(generator)[1:])
        )

    def test_least_that_is_named_can_be_reached_and_one_less_cannot(self):
        generator = built('SAGAN')

        def begin(value):
            start(
                build_hook(alpha=0.7, budget=dict(parameters=value)),
                runner_for(generator),
            )

        with pytest.raises(PPCDError, match='cannot be met') as refusal:
            begin(0.01)
        assert '\n' not in str(refusal.value)
        least = int(str(refusal.value).split(' of ')[-2].split()[-1])
        with pytest.raises(PPCDError, match=f'parameters={least - 1} of'):
            begin(least - 1)
        train(generator, end=1, alpha=0.7, budget=dict(parameters=least))
        assert complexity_of(exported(generator))['parameters'] == least

    def test_budget_that_needs_no_pruning_is_refused(self):
        with pytest.raises(PPCDError, match='nothing would be pruned'):
            start(
                build_hook(budget=dict(parameters=10**9)),
                runner_for(built('SAGAN')),
            )

    def test_resumed_run_prunes_the_same(self):
        arguments = dict(
            end=6,
            schedule='cubic',
            multiple_of=4,
            budget=dict(multiply_adds=0.3),
        )
        straight = train(built('SAGAN'), 6, **arguments)
        generator = built('SAGAN')
        train(generator, 3, **arguments)
        resumed = built('SAGAN')
        resumed.load_state_dict(generator.state_dict())
        states = train(resumed, 3, first=3, **arguments)
        for name, pruned in straight[-1].items():
            assert torch.equal(states[-1][name], pruned)

    def test_with_multiples_it_is_missed_by_less_than_one_of_them(self):
        generator = built('EDSR')
        dense = complexity_of(exported(generator))['multiply_adds']
        states = train(
            generator,
            30,
            end=30,
            schedule='linear',
            multiple_of=8,
            budget=dict(multiply_adds=0.3),
        )
        assert all(count % 8 == 0 for count in living(generator).values())
        left = complexity_of(exported(generator))['multiply_adds']
        assert left <= 0.3 * dense
        last = max(
            i
            for i, state in enumerate(states)
            if any(
                not torch.equal(pruned, states[-1][name])
                for name, pruned in state.items()
            )
        )
        for name, mask in named_masks(generator):
            mask.pruned.copy_(states[last][name])
        assert complexity_of(exported(generator))['multiply_adds'] > 0.3 * dense

    def test_channels_that_could_only_be_zeroed_are_let_alone(self):
        generator = MODELS.build(
            dict(copy.deepcopy(EDSR), convs=['body.*', 'conv_first'])
        )
        train(generator, end=2, alpha=0.9, budget=dict(parameters=0.7))
        assert {
            name for name, mask in named_masks(generator) if mask.num_pruned
        } == {f'body.{i}.conv1' for i in range(4)}

    def test_each_of_several_generators_has_the_budget(self):
        generators = nn.ModuleDict(
            dict(photo=built('EDSR'), mask=built('pix2pix'))
        )
        dense = {
            k: complexity_of(exported(g))['parameters']
            for k, g in generators.items()
        }
        runner = runner_for(None)
        runner.model = SimpleNamespace(generators=generators)
        hook = build_hook(end=1, budget=dict(parameters=0.5))
        start(hook, runner)
        step(hook, runner)
        for key, generator in generators.items():
            left = complexity_of(exported(generator))['parameters']
            assert 0.49 <= left / dense[key] <= 0.5


class TwoWays(nn.Module):
    """An image by way of eight channels and one of four are added. A channel
    of either takes 27 parameters with its bias's 1, and is read by 27."""

    input_shape = (3, 8, 8)
    DENSE = 666

    def __init__(self, scores_of_8=1.0, scores_of_4=1.0):
        super().__init__()
        self.eight = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
        self.four = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
        mask_channels(self, example_inputs(self))
        with torch.no_grad():
            for mask, scores in zip(masks_of(self), (scores_of_8, scores_of_4)):
                mask.weight.copy_(torch.as_tensor(scores).expand(mask.channels))

    def forward(self, x):
        return self.eight(x) + self.four(x)

    def pruned(self):
        return [mask.num_pruned for mask in masks_of(self)]


def one_weak(channels, weak):
    return [weak] + [1.0] * (channels - 1)


class TestWhichFallIsCountedByHand:
    def prune(self, net, **arguments):
        hook, runner = build_hook(end=1, **arguments), runner_for(net)
        start(hook, runner)
        step(hook, runner)
        return net.pruned()

    def test_one_channel_is_enough_for_a_budget_that_it_meets_exactly(self):
        net = TwoWays(one_weak(8, 0.1))
        assert complexity_of(exported(net))['parameters'] == TwoWays.DENSE
        assert self.prune(net, budget=dict(parameters=611)) == [1, 0]
        assert self.prune(
            TwoWays(one_weak(8, 0.1)), budget=dict(parameters=610)
        ) == [2, 0]

    @pytest.mark.parametrize('weak, expected', [(0.31, [0, 1]), (0.35, [1, 0])])
    def test_weakest_is_of_which_the_square_is_least_of_its_layer_s(
        self, weak, expected
    ):
        """.5^2 of 7.25 is .034; .31^2 of 3.1 is .031 and .35^2 is .039."""
        net = TwoWays(one_weak(8, 0.5), one_weak(4, weak))
        assert self.prune(net, budget=dict(parameters=611)) == expected

    def test_of_two_the_stronger_falls_if_it_saves_twice_as_much(self):
        """Of .035 and .051 the latter, since what reads the four is of 5 x 5:
        one of them has 103 parameters."""
        net = TwoWays(one_weak(8, 0.5), one_weak(4, 0.4))
        net.four[1] = nn.Conv2d(4, 3, 5, padding=1)
        dense = TwoWays.DENSE + 4 * 3 * (25 - 9)
        assert self.prune(net, budget=dict(parameters=dense - 103)) == [0, 1]

    def test_layer_that_may_lose_nothing_counts_among_the_least(self):
        """A fifth of eight is one, of four none."""
        assert self.prune(
            TwoWays(), alpha=0.2, budget=dict(parameters=611)
        ) == [1, 0]
        with pytest.raises(PPCDError, match='611 of 666 .* are the least'):
            self.prune(TwoWays(), alpha=0.2, budget=dict(parameters=610))

    def test_budget_of_all_that_there_is_is_refused(self):
        with pytest.raises(PPCDError, match='nothing would be pruned'):
            self.prune(TwoWays(), budget=dict(parameters=TwoWays.DENSE))

    def test_scores_at_the_threshold_fall(self):
        net = TwoWays([0.25] * 4 + [1.0] * 4)
        assert self.prune(
            net, alpha=0.9, schedule='threshold', threshold=0.25, multiple_of=4
        ) == [4, 0]


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(alpha=0.6, multiple_of=2),
        dict(multiple_of=2, budget=dict(parameters=0.6)),
        dict(budget=dict(multiply_adds=0.5)),
    ],
)
def test_shrinking_and_resumption_change_nothing(arguments, in_double):
    """Masks that have lost channels mean what they meant before."""
    # something falls before each removal
    masking = dict(
        type='MaskBinarizationHook', schedule='linear', end=12, **arguments
    )
    masked, shrunk, resumed = (
        Run(
            'sagan', masking, dict(type='ShrinkHook', interval=3, remove=remove)
        )
        for remove in (False, True, True)
    )
    losses = masked.train()
    torch.testing.assert_close(
        shrunk.train(8), losses[:8], rtol=1e-7, atol=1e-7
    )
    resumed.resume(shrunk.checkpoint())
    torch.testing.assert_close(
        resumed.train(), losses[8:], rtol=1e-7, atol=1e-7
    )
    ends = [living(run.model.generator) for run in (masked, resumed)]
    assert ends[0] == ends[1]
    assert any(count < 8 for count in ends[0].values())
    torch.testing.assert_close(
        masked.images(), resumed.images(), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(), 'needs alpha'),
        (dict(alpha=0.5, multiple_of=0), 'multiple_of=0 must be'),
        (dict(alpha=0.5, multiple_of=8.0), 'multiple_of=8.0 must be'),
        (dict(alpha=0.5, multiple_of=True), 'multiple_of=True must be'),
        (dict(budget=0.5), 'budget=0.5 must be a dict of one of'),
        (dict(budget={}), 'budget={} must be a dict of one of'),
        (
            dict(budget=dict(flops=0.5)),
            'must be a dict of one of.*multiply_adds',
        ),
        (
            dict(budget=dict(parameters=0.5, multiply_adds=0.5)),
            'a dict of one of',
        ),
        (dict(budget=dict(parameters=0)), 'parameters=0 must be a fraction'),
        (
            dict(budget=dict(parameters=1.0)),
            'parameters=1.0 must be a fraction',
        ),
        (dict(budget=dict(parameters=float('nan'))), 'parameters=nan must be'),
        (dict(budget=dict(parameters=True)), 'parameters=True must be'),
        (dict(budget=dict(parameters='half')), 'parameters=half must be'),
        (
            dict(budget=dict(parameters=0.5), schedule='threshold'),
            'threshold.*cannot promise a budget',
        ),
        (dict(budget=dict(parameters=0.5), alpha=1.0), r'alpha=1.0 must be in'),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(PPCDError, match=message) as refusal:
        build_hook(**arguments)
    assert '\n' not in str(refusal.value)
