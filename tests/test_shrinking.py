"""A run that removes pruned channels against the one that only masks."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
from conftest import STUDENTS, build_generator, every_class
from shrink_runs import MASKING, SHRINKING, exported
from shrink_runs import GanRun as Run

from ppcd_mmagic.channels import (
    fit_to_state,
    named_masks,
    shrink_channels,
    zero_dead_channels,
)
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import HOOKS


@pytest.fixture(autouse=True)
def double_precision():
    """Sums in another order differ by 1e-16 and not by 1e-7, which Adam would
    blow up where gradients are zero but for rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def size(module):
    return sum(p.numel() for p in module.parameters())


def optimizer_size(run):
    states = run.optim_wrapper['generator'].optimizer.state.values()
    return sum(
        state[key].numel()
        for state in states
        for key in ('exp_avg', 'exp_avg_sq')
    )


@pytest.mark.parametrize(
    'masks',
    [
        dict(residual_masks='independent'),
        dict(residual_masks='shared', masked_linears=['noise2feat']),
    ],
    ids=['independent', 'shared and linear'],
)
@pytest.mark.parametrize('name', STUDENTS)
def test_shrunk_run_equals_the_masked_one(name, masks):
    masked = Run(name, MASKING, dict(SHRINKING, remove=False), **masks)
    shrunk = Run(name, MASKING, SHRINKING, **masks)
    full = size(shrunk.model.generator)
    expected, actual = masked.train(), shrunk.train()
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7)
    for part in ('generator', 'generator_ema'):
        torch.testing.assert_close(
            shrunk.images(part), masked.images(part), rtol=0, atol=1e-6
        )

    left = size(shrunk.model.generator)
    assert left < 0.9 * full == 0.9 * size(masked.model.generator)
    assert size(shrunk.model.generator_ema.module) == left
    assert optimizer_size(shrunk) == 2 * left
    for (_, a), (_, b) in zip(
        named_masks(masked.model.generator), named_masks(shrunk.model.generator)
    ):
        assert a.num_pruned == b.num_pruned == int(0.6 * a.channels + 1e-6)
        assert a.channels == b.channels and a.sparsity == b.sparsity


def test_without_spectral_norm_nothing_but_the_masks_is_needed():
    """The run it equals is the plain one, without this hook."""
    # MMagic's attention normalizes all the same, unless its config says no
    plain = dict(
        residual_masks='shared',
        attention_cfg=dict(type='SelfAttentionBlock', with_spectral_norm=False),
    )
    masked = Run('sagan_plain', MASKING, **plain)
    shrunk = Run('sagan_plain', MASKING, SHRINKING, **plain)
    state = shrunk.model.generator.state_dict()
    assert not any(key.endswith('weight_orig') for key in state)
    torch.testing.assert_close(
        shrunk.train(), masked.train(), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize('name', ['sagan', 'sagan_ajbrock', 'biggan_torch'])
def test_spectral_norm_is_that_of_the_living_channels_at_once(name):
    """Before the next step of the training finds it: pictures and metrics
    come first. Five steps leave a tenth; vectors merely cut are two to seven
    times too short."""
    generator = half_pruned(name, 'shared')
    before = generator.state_dict()
    shrink_channels(generator, example_inputs(generator))
    every_class_of(generator)  # torch computes weights when they are used
    changed = 0
    for key in generator.state_dict():
        module = generator.get_submodule(key.rpartition('.')[0])
        kind = key.rpartition('.')[2]
        if kind == 'weight_u':
            weight = module.weight
        elif kind == 'u0':
            weight = module.sn_weight()
        else:
            continue
        if (
            weight.numel()
            == before[
                key.replace('weight_u', 'weight_orig').replace('u0', 'weight')
            ].numel()
        ):
            continue
        changed += 1
        largest = torch.linalg.svdvals(weight.detach().flatten(1))[0]
        assert float(largest) == pytest.approx(1, abs=0.2), key
    assert changed >= 10


@pytest.mark.parametrize('name', ['sagan', 'biggan'])
def test_resumed_run_continues_exactly(name):
    whole = Run(name, MASKING, SHRINKING)
    expected = whole.train()
    killed = Run(name, MASKING, SHRINKING)
    first = killed.train(8)
    checkpoint = killed.checkpoint()
    resumed = Run(name, MASKING, SHRINKING)
    assert size(resumed.model.generator) > size(killed.model.generator)
    resumed.resume(checkpoint)
    assert size(resumed.model.generator) == size(killed.model.generator)
    second = resumed.train()
    assert torch.equal(torch.cat([first, second]), expected)
    state = whole.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', ['sagan', 'sagan_ajbrock', 'biggan'])
def test_checkpoint_of_a_shrunk_run_is_exported(name, residual_masks, tmp_path):
    shrunk = Run(name, MASKING, SHRINKING, residual_masks=residual_masks)
    masked = Run(
        name,
        MASKING,
        dict(SHRINKING, remove=False),
        residual_masks=residual_masks,
    )
    torch.set_default_dtype(torch.float32)
    sizes = []
    for run in (shrunk, masked):
        torch.set_default_dtype(torch.float64)
        run.train()
        expected = run.images('generator_ema')
        torch.set_default_dtype(torch.float32)
        export = exported(
            run.model.state_dict(), run.generator_cfg, tmp_path / 'run.pth'
        )
        sizes.append(export.summary['after'])
        # floor(0.6 * 16) of 16 and floor(0.6 * 8) of 8
        assert set(export.summary['sparsity'].values()) == {9 / 16, 4 / 8}
        assert (
            export.summary['sparsity'].keys()
            == dict(named_masks(run.model.generator)).keys()
        )
        torch.set_default_dtype(torch.float64)
        noise, labels = every_class(2)
        torch.testing.assert_close(
            export.generator.double()(noise, label=labels),
            expected,
            rtol=0,
            atol=1e-3,
        )
        torch.set_default_dtype(torch.float32)
    assert sizes[0] == sizes[1]


def test_a_mask_never_loses_more_than_alpha_of_what_it_was_built_with():
    run = Run(
        'sagan',
        dict(MASKING, schedule='threshold', threshold=10.0),
        dict(SHRINKING, interval=1),
        residual_masks='shared',
    )
    run.train(5)
    for _, mask in named_masks(run.model.generator):
        assert mask.num_pruned == int(0.6 * mask.channels + 1e-6)
        assert len(mask.weight) == mask.channels - mask.num_pruned


def half_pruned(name, residual_masks, **changes):
    """A generator in eval mode, half of the lowest scores of each mask
    pruned."""
    generator = build_generator(
        STUDENTS[name], residual_masks=residual_masks, **changes
    )
    for _, mask in named_masks(generator):
        mask.prune(mask.channels // 2)
    return generator.double()


def every_class_of(generator):
    noise, labels = every_class(2)
    with torch.no_grad():
        return generator(noise.double(), label=labels)


NOT_NORMALIZED = dict(
    sagan_plain=dict(
        attention_cfg=dict(type='SelfAttentionBlock', with_spectral_norm=False)
    ),
    biggan=dict(with_spectral_norm=False),
)


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', NOT_NORMALIZED)
def test_removal_changes_no_image_where_nothing_is_normalized(
    name, residual_masks
):
    generator = half_pruned(name, residual_masks, **NOT_NORMALIZED[name])
    before, size_before = every_class_of(generator), size(generator)
    shrink_channels(generator, example_inputs(generator))
    assert size(generator) < 0.8 * size_before
    torch.testing.assert_close(
        every_class_of(generator), before, rtol=0, atol=1e-9
    )


def pruned_by_hand():
    """A student without spectral norm of 16 and 8 channels and its optimizer
    after a step. Pruned in the first block are 5 and 6 of conv_1, 0, 1 and 2
    of conv_2, and 1, 2 and 3 of the shortcut: 1 and 2 leave the stream."""
    generator = build_generator(STUDENTS['sagan_plain']).double()
    optimizer = torch.optim.Adam(
        [
            dict(params=[parameter], lr=1e-3 if '.mask.' in name else 1e-4)
            for name, parameter in generator.named_parameters()
        ]
    )
    noise, labels = every_class()
    generator(noise.double(), label=labels).square().mean().backward()
    optimizer.step()
    for conv, channels in dict(
        conv_1=[5, 6], conv_2=[0, 1, 2], shortcut=[1, 2, 3]
    ).items():
        masks = dict(named_masks(generator))
        masks[f'conv_blocks.0.{conv}'].pruned[channels] = True
    return generator, optimizer


# in the first block's conv_1 and behind it, and in the stream
FIRST, STREAM = [5, 6], [1, 2]
CUT = {
    'conv_blocks.0.conv_1.conv.weight': (0, FIRST),
    'conv_blocks.0.conv_1.conv.bias': (0, FIRST),
    'conv_blocks.0.conv_1.conv.mask.weight': (0, FIRST),
    'conv_blocks.0.norm_2.weight_embedding.weight': (1, FIRST),
    'conv_blocks.0.norm_2.bias_embedding.weight': (1, FIRST),
    'conv_blocks.0.conv_2.conv.bias': (0, STREAM),
    'conv_blocks.0.conv_2.conv.mask.weight': (0, STREAM),
    'conv_blocks.0.shortcut.conv.weight': (0, STREAM),
    'conv_blocks.0.shortcut.conv.bias': (0, STREAM),
    'conv_blocks.0.shortcut.conv.mask.weight': (0, STREAM),
    'conv_blocks.2.norm_1.weight_embedding.weight': (1, STREAM),
    'conv_blocks.2.norm_1.bias_embedding.weight': (1, STREAM),
    'conv_blocks.2.conv_1.conv.weight': (1, STREAM),
    'conv_blocks.2.shortcut.conv.weight': (1, STREAM),
}
# read and written by the stream, or by both
CONV_2 = 'conv_blocks.0.conv_2.conv.weight'
ATTENTION = [
    f'conv_blocks.1.{name}.conv.weight_orig'
    for name in ('theta', 'phi', 'g', 'o')
]


def without(value, dim, channels):
    kept = [i for i in range(value.shape[dim]) if i not in channels]
    return value.index_select(dim, torch.tensor(kept))


def test_what_all_its_masks_have_pruned_leaves_and_nothing_else():
    """Every other parameter, and with it its gradient, which may be summed
    up over several batches, and the moments of the optimizer."""
    generator, optimizer = pruned_by_hand()
    old = {
        key: (
            value.detach().clone(),
            value.grad,
            copy.deepcopy(optimizer.state[value]),
        )
        for key, value in generator.named_parameters()
    }
    norm = generator.conv_blocks[0].norm_2.norm
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    # 2 of conv_1, and 2 in each of the two masks of the stream
    assert shrink_channels(generator, example_inputs(generator), optimizer) == 6
    assert torch.equal(norm.running_mean, without(mean, 0, FIRST))
    assert torch.equal(norm.running_var, without(var, 0, FIRST))
    for key, parameter in generator.named_parameters():

        def expected(value, key=key):
            if key == CONV_2:
                return without(without(value, 0, STREAM), 1, FIRST)
            if key in ATTENTION:
                return without(value, int('.o.' not in key), STREAM)
            return without(value, *CUT[key]) if key in CUT else value

        weight, gradient, state = old[key]
        assert torch.equal(parameter, expected(weight)), key
        assert torch.equal(parameter.grad, expected(gradient)), key
        new = optimizer.state[parameter]
        assert new['step'] == state['step'] == 1
        for moment in ('exp_avg', 'exp_avg_sq'):
            assert torch.equal(new[moment], expected(state[moment])), key


def test_optimizer_goes_on_with_the_parameters_cut_and_their_rates():
    generator, optimizer = pruned_by_hand()
    shrink_channels(generator, example_inputs(generator), optimizer)
    rates = {
        parameter: group['lr']
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    names = dict(generator.named_parameters())
    assert set(rates) == set(names.values()) == set(optimizer.state)
    for name, parameter in names.items():
        assert rates[parameter] == (1e-3 if '.mask.' in name else 1e-4)
        assert parameter.requires_grad and parameter.is_leaf


def test_masks_remember_what_left():
    generator, _ = pruned_by_hand()
    shrink_channels(generator, example_inputs(generator))
    conv_1, conv_2, shortcut, *_ = (m for _, m in named_masks(generator))
    assert [
        (m.channels, len(m.pruned), m.num_removed, m.num_pruned)
        for m in (conv_1, conv_2, shortcut)
    ] == [(16, 14, 2, 2), (16, 14, 2, 3), (16, 14, 2, 3)]
    assert conv_2.pruned.nonzero().flatten().tolist() == [0]
    assert shortcut.pruned.nonzero().flatten().tolist() == [1]  # it was 3


def test_zeroing_keeps_sizes_and_sets_to_zero_what_removal_would_cut():
    generator, optimizer = pruned_by_hand()
    old = {
        key: value.detach().clone()
        for key, value in generator.named_parameters()
    }
    zero_dead_channels(generator, example_inputs(generator), optimizer)
    for key, parameter in generator.named_parameters():
        for value, whole in (
            (parameter, old[key]),
            (parameter.grad, None),
            (optimizer.state[parameter]['exp_avg'], None),
        ):
            cuts = [CUT[key]] if key in CUT else []
            if key == CONV_2:
                cuts = [(0, STREAM), (1, FIRST)]
            elif key in ATTENTION:
                cuts = [(int('.o.' not in key), STREAM)]
            if key.endswith('mask.weight'):
                cuts = []  # scores are not weights
            living = torch.ones_like(value, dtype=torch.bool)
            for dim, channels in cuts:
                living.index_fill_(dim, torch.tensor(channels), False)
            assert not value[~living].any(), key
            if whole is not None:
                assert torch.equal(value[living], whole[living]), key
    assert all(m.num_removed == 0 for _, m in named_masks(generator))


def test_nothing_leaves_where_nothing_is_pruned():
    generator = build_generator(STUDENTS['biggan'])
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    assert shrink_channels(generator, example_inputs(generator)) == 0
    assert {k: v.shape for k, v in generator.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }


def test_a_state_that_does_not_fit_is_left_to_who_loads_it():
    """Only what is smaller was cut; a wider layer is another network's."""
    generator = build_generator(STUDENTS['sagan'])
    wider = build_generator(STUDENTS['sagan'], base_channels=16).state_dict()
    shapes = {k: v.shape for k, v in generator.state_dict().items()}
    fit_to_state(generator, example_inputs(generator), wider)
    assert {k: v.shape for k, v in generator.state_dict().items()} == shapes


@pytest.mark.parametrize(
    'whole, name',
    [
        (True, 'generator'),
        (False, 'generator'),
        (True, 'generator.module'),
        (True, 'module.generator'),
    ],
)
def test_a_checkpoint_of_either_form_gives_a_tested_model_its_sizes(
    whole, name
):
    """A state dict or a checkpoint with one in it; without an optimizer, as
    where a model is only tested; with the names of MMEngine's wrappers."""
    cut, _ = pruned_by_hand()
    shrink_channels(cut, example_inputs(cut))
    state = {f'{name}.{k}': v for k, v in cut.state_dict().items()}
    fresh = build_generator(STUDENTS['sagan_plain'])
    runner = SimpleNamespace(
        model=nn.ModuleDict(dict(generator=fresh)), optim_wrapper=dict()
    )
    HOOKS.build(SHRINKING).after_load_checkpoint(
        runner, dict(state_dict=state) if whole else state
    )
    fresh.load_state_dict(cut.state_dict(), strict=True)
    torch.testing.assert_close(
        every_class_of(fresh.double()), every_class_of(cut)
    )
    assert [m.num_pruned for _, m in named_masks(fresh)] == [
        m.num_pruned for _, m in named_masks(cut)
    ]


@pytest.mark.parametrize(
    'masked', [['conv_1', 'conv_2'], ['conv_1', 'shortcut']]
)
def test_channels_that_something_unmasked_writes_stay(masked):
    generator = build_generator(STUDENTS['sagan'], masked_convs=masked)
    for _, mask in named_masks(generator):
        mask.prune(mask.channels // 2)
    assert shrink_channels(generator, example_inputs(generator)) == 8 + 4
    for block, width in zip(
        (generator.conv_blocks[0], generator.conv_blocks[2]), (16, 8)
    ):
        assert block.conv_1.conv.out_channels == width // 2
        assert block.conv_2.conv.in_channels == width // 2
        assert block.conv_2.conv.out_channels == width
        assert block.shortcut.conv.out_channels == width


def test_bad_use_is_refused():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        HOOKS.build(dict(SHRINKING, interval=0))
    hook = HOOKS.build(SHRINKING)
    wrapped = SimpleNamespace(
        model=nn.ModuleDict(dict(generator=nn.DataParallel(nn.Module())))
    )
    with pytest.raises(
        ValueError, match='ShrinkHook cannot change what DataParallel'
    ):
        hook.before_train(wrapped)
    averaged = SimpleNamespace(
        model=nn.Module(), hooks=[HOOKS.build(dict(type='EMAHook'))]
    )
    with pytest.raises(ValueError, match='the copy that EMAHook keeps'):
        hook.before_train(averaged)


def test_zeroing_again_changes_nothing():
    """Nor would cutting again; the singular vectors stay as well."""
    generator, optimizer = pruned_by_hand()
    zero_dead_channels(generator, example_inputs(generator), optimizer)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    zero_dead_channels(generator, example_inputs(generator), optimizer)
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key]), key
