import copy

import pytest
import torch
import torch.nn as nn
from conftest import (
    BIGGAN,
    CLASSES,
    NOISE,
    SAGAN,
    STUDENTS,
    build_generator,
    every_class,
    prune,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger

from ppcd_mmagic.channels import (
    ChannelMask,
    copy_masks,
    discard_channels,
    link_masks,
    mask_channels,
    named_masks,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS


@given(
    st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=20),
    st.lists(st.integers(-3, 25), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_pruning_is_monotone_takes_the_lowest_and_spares_the_last(
    scores, counts
):
    mask = ChannelMask(len(scores))
    mask.weight.data.copy_(torch.tensor(scores))
    before = mask.pruned.clone()
    for count in counts:
        mask.prune(count)
        assert (mask.pruned | ~before).all(), 'a pruned channel came back'
        assert mask.num_pruned < mask.channels
        wanted = min(max(count, int(before.sum())), mask.channels - 1)
        assert mask.num_pruned == wanted
        if mask.num_pruned:
            assert (
                mask.weight[mask.pruned].max()
                <= mask.weight[~mask.pruned].min()
            )
        before = mask.pruned.clone()


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_gate_is_exactly_binary_and_straight_through(scores):
    mask = ChannelMask(len(scores))
    mask.weight.data.copy_(torch.tensor(scores))
    mask.prune(len(scores) // 2)
    gate = mask.gate()
    assert torch.equal(gate, (~mask.pruned).float())
    upstream = torch.randn(len(scores))
    (gate * upstream).sum().backward()
    assert torch.equal(mask.weight.grad, upstream * ~mask.pruned)


def scaled_places(mask, residual_masks, conv_1, conv_2, to_image):
    """Convolutions whose output, and those whose input, a score scales: who
    writes and who reads its channels, by MMagic's source of the generators."""
    block = mask.rsplit('.', 1)[0]
    if mask == 'noise2feat':
        return [mask], [f'conv_blocks.0.{conv_1}', 'conv_blocks.0.shortcut']
    if mask.endswith(conv_1):
        return [mask], [f'{block}.{conv_2}']
    if residual_masks == 'independent':  # two masks write it: gated, untrained
        return [mask], []
    outputs = [f'{block}.{conv_2}', f'{block}.shortcut']
    if block == 'conv_blocks.2':
        return outputs, [to_image]
    attention, behind = 'conv_blocks.1.', 'conv_blocks.2.'
    return [*outputs, attention + 'o'], [
        attention + 'theta',
        attention + 'phi',
        attention + 'g',
        behind + conv_1,
        behind + 'shortcut',
    ]


def scaled(out, factor):
    """Maps by a factor each; a linear layer writes them one after the other."""
    maps = out if out.ndim == 4 else out.unflatten(1, (factor.numel(), -1, 1))
    return (maps * factor).reshape(out.shape)


def slopes_by_finite_differences(generator, places, channels, loss):
    """Of the loss, by a factor on each channel in all the places at once. The
    steps are small: ReLU and max-pooling have kinks."""
    factor = torch.ones(channels, dtype=torch.float64).view(1, -1, 1, 1)
    convs = dict(generator.named_modules())
    handles = [
        convs.get(f'{name}.conv', convs[name]).register_forward_hook(
            lambda layer, args, out: scaled(out, factor)
        )
        for name in places[0]
    ] + [
        convs[f'{name}.conv'].register_forward_pre_hook(
            lambda conv, args: args[0] * factor
        )
        for name in places[1]
    ]
    slopes = []
    for index in range(channels):
        around = []
        for value in (1 + 1e-7, 1 - 1e-7):
            factor[0, index] = value
            around.append(float(loss(generator)))
        factor[0, index] = 1
        slopes.append((around[0] - around[1]) / 2e-7)
    for handle in handles:
        handle.remove()
    return torch.tensor(slopes, dtype=torch.float64)


@pytest.mark.parametrize(
    'name, residual_masks, linears, images',
    [
        ('sagan', 'independent', [], 6),  # readers' inputs larger than weights
        ('sagan', 'independent', [], 2),  # and smaller
        ('sagan', 'shared', ['noise2feat'], 6),
        ('biggan', 'shared', [], 2),
        ('biggan', 'shared', ['noise2feat'], 2),
        ('biggan_torch', 'independent', ['noise2feat'], 6),
        ('biggan_torch', 'shared', [], 6),
    ],
)
def test_scores_are_trained_where_their_channels_are_written_and_read(
    name, residual_masks, linears, images
):
    """The norm behind conv_1 hides every scale from its output; trained there
    alone, a score would get a gradient of 1e-5 (docs/method.md)."""
    config = STUDENTS[name]
    masked = build_generator(
        config, residual_masks=residual_masks, masked_linears=linears
    ).double()
    dense = MODELS.build(
        dict(config, type=config['type'].removeprefix('PPRes'))
    ).double()
    dense.load_state_dict(
        {k: v for k, v in masked.state_dict().items() if '.mask.' not in k}
    )
    for generator in (masked, dense):
        generator.train()
        for module in generator.modules():
            # a power iteration in each call would change the weights
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                module.eval()
    noise, labels = (value[:images] for value in every_class(2))
    target = torch.randn(images, 3, 16, 16, dtype=torch.float64)

    def loss(generator):
        fake = generator(noise.double(), label=labels)
        return 10 * (fake - target).square().mean()

    names = (
        ('conv_1', 'conv_2', 'to_rgb')
        if 'sagan' in name
        else ('conv1', 'conv2', 'output_layer')
    )
    loss(masked).backward()
    for owner, mask in named_masks(masked):
        with torch.no_grad():
            slopes = slopes_by_finite_differences(
                dense,
                scaled_places(owner, residual_masks, *names),
                mask.channels,
                loss,
            )
        torch.testing.assert_close(
            mask.weight.grad, slopes, rtol=1e-4, atol=1e-6
        )
        assert slopes.abs().max() > 1e-2, owner


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
def test_a_channel_two_masks_write_is_read_until_both_have_pruned_it(
    residual_masks,
):
    """Against MMagic's generator, zeroed by hand in the same places."""
    masked = build_generator(SAGAN, residual_masks=residual_masks)
    dense = MODELS.build(dict(SAGAN, type='SAGANGenerator')).eval()
    dense.load_state_dict(
        {k: v for k, v in masked.state_dict().items() if '.mask.' not in k}
    )
    convs = dict(dense.named_modules())
    block, last = masked.conv_blocks[0], 'conv_blocks.0.'
    shared = residual_masks == 'shared'
    block.conv_2.conv.mask.pruned[[0, 3]] = True
    second = block.conv_2 if shared else block.shortcut
    second.conv.mask.pruned[[3, 5]] = True
    outputs, inputs = scaled_places(
        last + 'conv_2', 'shared', 'conv_1', 'conv_2', 'to_rgb'
    )
    dead = {name: [0, 3, 5] if shared else [3] for name in outputs + inputs}
    if not shared:
        dead.update({last + 'conv_2': [0, 3], last + 'shortcut': [3, 5]})

    def zeroed(value, name):
        value = value.clone()
        value[:, dead[name]] = 0
        return value

    for name in outputs:
        convs[f'{name}.conv'].register_forward_hook(
            lambda conv, args, out, name=name: zeroed(out, name)
        )
    for name in inputs:
        convs[f'{name}.conv'].register_forward_pre_hook(
            lambda conv, args, name=name: zeroed(args[0], name)
        )
    noise, labels = every_class()
    with torch.no_grad():
        image = masked(noise, label=labels)
        torch.testing.assert_close(
            image, dense(noise, label=labels), rtol=0, atol=1e-6
        )
        block.conv_2.conv.mask.pruned[1] = True
        assert (masked(noise, label=labels) - image).abs().max() > 1e-4


@pytest.mark.parametrize('name', STUDENTS)
@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('training', [False, True])
def test_pruned_channels_reach_nothing_for_any_class(
    name, residual_masks, training
):
    """Whatever a dead channel's filter, bias, norm or class embedding holds,
    the image is the same."""
    generator = build_generator(STUDENTS[name], residual_masks=residual_masks)
    prune(generator, 0.5)
    generator.train(training)
    noise, labels = every_class(2)
    changed = copy.deepcopy(generator)
    with torch.no_grad():
        for block in changed.conv_blocks:
            conv = getattr(block, 'conv_1', getattr(block, 'conv1', None))
            if conv is None:
                continue
            norm = getattr(block, 'norm_2', getattr(block, 'bn2', None))
            dead = conv.conv.mask.pruned
            assert dead.any()
            if conv.conv.bias is not None:
                conv.conv.bias[dead] = 7.0
            for part in norm.modules():
                if hasattr(part, 'running_mean'):
                    part.running_mean[dead] = 3.0
                    part.running_var[dead] = 0.1
                # spectral norm would spread a change to the living columns
                weight = getattr(part, 'weight', None)
                if (
                    isinstance(part, nn.Embedding)
                    and not hasattr(part, 'weight_orig')
                    and not hasattr(part, 'u0')
                ):
                    weight[:, dead] = 5.0
        expected = generator(noise, label=labels)
        assert torch.equal(changed(noise, label=labels), expected)


@pytest.mark.parametrize('config', [SAGAN, BIGGAN])
def test_checkpoint_restores_masks(config, tmp_path):
    generator = build_generator(config)
    prune(generator, 0.4)
    torch.save(generator.state_dict(), tmp_path / 'g.pth')
    restored = build_generator(config)
    restored.load_state_dict(torch.load(tmp_path / 'g.pth'))
    noise, labels = every_class()
    with torch.no_grad():
        assert torch.equal(
            restored(noise, label=labels), generator(noise, label=labels)
        )
    for (_, a), (_, b) in zip(named_masks(generator), named_masks(restored)):
        assert torch.equal(a.pruned, b.pruned)


def test_a_copy_has_masks_of_its_own():
    generator = build_generator(SAGAN)
    twin = copy.deepcopy(generator)
    prune(twin, 0.5)
    assert all(mask.num_pruned == 0 for _, mask in named_masks(generator))
    noise, labels = every_class()
    with torch.no_grad():
        alone = twin(noise, label=labels)
        assert not torch.equal(generator(noise, label=labels), alone)
        copy_masks(twin, generator)
        assert torch.equal(generator(noise, label=labels), alone)


def test_shared_masks_are_one_parameter():
    independent = dict(named_masks(build_generator(SAGAN)))
    shared = build_generator(SAGAN, residual_masks='shared')
    names = dict(named_masks(shared))
    assert len(independent) == 6 and len(names) == 4
    assert all('shortcut' not in name for name in names)
    block = shared.conv_blocks[0]
    names['conv_blocks.0.conv_2'].prune(3)
    channels = link_masks(shared, example_inputs(shared))
    assert torch.equal(
        channels.alive_outputs('conv_blocks.0.shortcut'),
        ~block.conv_2.conv.mask.pruned,
    )


def test_which_convolutions_are_masked_is_configurable():
    generator = build_generator(SAGAN, masked_convs=['conv_1'])
    assert [n for n, _ in named_masks(generator)] == [
        'conv_blocks.0.conv_1',
        'conv_blocks.2.conv_1',
    ]


def test_which_convolutions_of_biggan_are_masked_is_configurable():
    generator = build_generator(BIGGAN, masked_convs=['conv_2'])
    assert {name.rpartition('.')[2] for name, _ in named_masks(generator)} == {
        'conv2'
    }


@pytest.mark.parametrize('convs', [['conv_9'], ['conv_1', 'conv_9'], []])
def test_convolutions_to_mask_must_exist(convs):
    with pytest.raises(ValueError, match='conv_1.*conv_2.*shortcut'):
        build_generator(SAGAN, masked_convs=convs)


def test_nothing_is_shared_where_the_shortcut_has_no_mask():
    generator = build_generator(
        SAGAN, masked_convs=['conv_1', 'conv_2'], residual_masks='shared'
    )
    block = generator.conv_blocks[0]
    block.conv_2.conv.mask.prune(3)
    channels = link_masks(generator, example_inputs(generator))
    assert int(channels.alive_outputs('conv_blocks.0.conv_2').sum()) == 13
    assert channels.alive_outputs('conv_blocks.0.shortcut').all()


def test_masks_of_a_residual_are_independent_or_shared():
    with pytest.raises(ValueError, match='some.*independent.*shared'):
        build_generator(SAGAN, residual_masks='some')


@pytest.mark.parametrize('config', [SAGAN, BIGGAN])
def test_masks_attach_to_any_generator_by_name(config):
    """The same masks, by pattern on MMagic's own generator."""
    by_blocks = build_generator(config)
    plain = {k: v for k, v in config.items()}
    plain['type'] = config['type'].removeprefix('PPRes')
    by_name = MODELS.build(
        dict(
            type='MaskedGenerator',
            generator=plain,
            convs=['conv_blocks.*.conv*', 'conv_blocks.*.shortcut'],
        )
    ).eval()
    by_name.load_state_dict(by_blocks.state_dict())
    for generator in (by_blocks, by_name):
        prune(generator, 0.6)
    noise, labels = every_class()
    with torch.no_grad():
        assert torch.equal(
            by_name(noise, label=labels), by_blocks(noise, label=labels)
        )


def test_defaults_fill_in_what_the_masked_generator_s_config_leaves_out():
    bare = {k: v for k, v in SAGAN.items() if k != 'noise_size'}
    generator = MODELS.build(
        dict(
            type='MaskedGenerator',
            generator=dict(bare, type='SAGANGenerator'),
            convs=['conv_blocks.*.conv_1'],
            noise_size=NOISE,
            num_classes=CLASSES + 3,
        )
    )
    assert generator.noise_size == NOISE
    assert generator.num_classes == CLASSES, 'the config comes first'


def test_blocks_plug_into_a_generator_of_mmagic():
    plain = {k: v for k, v in SAGAN.items()}
    plain.update(
        type='SAGANGenerator',
        blocks_cfg=dict(type='ppcd_mmagic.PPResSNGANGenResBlock'),
    )
    plugged = MODELS.build(plain).eval()
    ours = build_generator(SAGAN)
    plugged.load_state_dict(ours.state_dict())
    link_masks(plugged, example_inputs(plugged))
    for generator in (plugged, ours):
        prune(generator, 0.6)
    noise, labels = every_class()
    with torch.no_grad():
        assert torch.equal(
            plugged(noise, label=labels), ours(noise, label=labels)
        )


def test_masks_work_on_a_plain_network():
    """Nothing about the mechanism is particular to GANs."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3)
            self.norm = nn.BatchNorm2d(8)
            self.second = nn.Conv2d(8, 2, 3)

        def forward(self, x):
            return self.second(torch.relu(self.norm(self.first(x))))

    net = Net().eval()
    x = torch.randn(2, 3, 8, 8)
    mask_channels(net, x, 'fir*')
    prune(net, 0.5)
    net.norm.bias.data.fill_(1.0)
    alive = ~net.first.mask.pruned
    with torch.no_grad():
        hidden = torch.relu(
            net.norm(torch.conv2d(x, net.first.weight, net.first.bias))
        )
        expected = torch.conv2d(
            hidden[:, alive], net.second.weight[:, alive], net.second.bias
        )
        torch.testing.assert_close(net(x), expected)


def test_unknown_layer_name_lists_what_there_is():
    generator = build_generator(SAGAN)
    with pytest.raises(PPCDError, match=r'"conv_blocks\.7\.\*".*has: .*to_rgb'):
        mask_channels(generator, example_inputs(generator), 'conv_blocks.7.*')


def test_a_forward_that_branches_on_values_is_masked_like_any_other():

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 1)
            self.last = nn.Conv2d(4, 1, 1)

        def forward(self, x):
            return self.last(self.conv(x)) if x.sum() > 0 else x

    channels = mask_channels(Branching(), torch.ones(1, 1, 2, 2))
    assert list(channels.masks) == ['conv']
    with pytest.raises(PPCDError, match='not run on the example inputs'):
        mask_channels(Branching(), -torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize('name', ['sagan_plain'])
@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
def test_discarding_channels_changes_nothing(name, residual_masks):
    generator = build_generator(STUDENTS[name], residual_masks=residual_masks)
    prune(generator, 0.7)
    noise, labels = every_class()
    with torch.no_grad():
        expected = generator(noise, label=labels)
        smaller = discard_channels(generator, example_inputs(generator))
        torch.testing.assert_close(
            smaller(noise, label=labels), expected, rtol=0, atol=1e-6
        )
    assert not any(True for _ in named_masks(smaller))


def test_no_pattern_at_all_is_refused_as_such():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
    with pytest.raises(PPCDError, match='convs names no convolution'):
        mask_channels(net, torch.zeros(1, 3, 2, 2), convs=[])


@pytest.mark.parametrize(
    'wrong',
    [
        dict(convs=None),
        dict(exclude=None),
        dict(linears=None),
        dict(linears=True),
        dict(linears=[1]),
        dict(convs=('*', nn.Conv2d)),
    ],
)
def test_what_names_no_layers_is_refused_with_what_was_expected(wrong):
    (what,) = wrong
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
    with pytest.raises(PPCDError, match=f'{what}=.*name or pattern') as error:
        mask_channels(module, torch.zeros(1, 3, 4, 4), **wrong)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(PPCDError, match=f'{what}=.*name or pattern'):
        MODELS.build(
            dict(
                type='MaskedGenerator',
                generator=dict(type='EDSRNet', in_channels=3, out_channels=3),
                input_shape=(3, 8, 8),
                **wrong,
            )
        )


def test_biggan_s_blocks_plug_into_a_generator_of_mmagic():
    plain = {k: v for k, v in BIGGAN.items()}
    plain.update(
        type='BigGANGenerator',
        blocks_cfg=dict(type='ppcd_mmagic.PPResBigGANGenResBlock'),
    )
    masks = dict(named_masks(MODELS.build(plain)))
    assert masks.keys() == dict(named_masks(build_generator(BIGGAN))).keys()
    assert {name.rpartition('.')[2] for name in masks} == {
        'conv1',
        'conv2',
        'shortcut',
    }


def masked_by_name(**options):
    return MODELS.build(
        dict(
            type='MaskedGenerator',
            generator=dict(SAGAN, type='SAGANGenerator'),
            **options,
        )
    )


def test_all_that_can_be_masked_by_name_is_unless_it_is_left_out():
    every = {name for name, _ in named_masks(masked_by_name())}
    assert 'conv_blocks.0.conv_1' in every and 'to_rgb' not in every
    assert 'conv_blocks.1.o' in every
    some = {
        name
        for name, _ in named_masks(
            masked_by_name(convs='conv_blocks.*', exclude=['conv_blocks.1.*'])
        )
    }
    assert some == {n for n in every if not n.startswith('conv_blocks.1.')}


def test_masks_by_name_are_tied_if_they_are_told_to():
    """conv_2 and shortcut then have one score for both."""
    untied, tied = (
        dict(
            named_masks(
                masked_by_name(
                    convs=['conv_blocks.*.conv_*', 'conv_blocks.*.shortcut'],
                    **tie,
                )
            )
        )
        for tie in ({}, dict(tie=True))
    )
    assert len(untied) == 6 and len(tied) == 4


def test_the_shape_of_an_input_is_told_to_the_generator():
    generator = masked_by_name(input_shape=[NOISE])
    assert generator.input_shape == (NOISE,)
    assert not hasattr(masked_by_name(), 'input_shape')


def test_what_was_masked_is_in_the_log(capsys):
    MMLogger.get_instance('test_what_was_masked', log_level='INFO')
    masked_by_name(convs='conv_blocks.0.*')
    assert 'masks on 3 of' in ''.join(capsys.readouterr())


def test_linear_layers_are_masked_by_name_with_a_score_for_each_map():
    masks = dict(named_masks(masked_by_name(convs=[], linears='noise2feat')))
    first = build_generator(SAGAN).noise2feat
    assert masks.keys() == {'noise2feat'}
    assert masks['noise2feat'].channels == first.out_features // 16
    assert 'noise2feat' not in dict(named_masks(masked_by_name()))
    assert 'noise2feat' not in dict(
        named_masks(masked_by_name(linears='*', exclude='noise2feat'))
    )


@pytest.mark.parametrize('name', ['sagan', 'biggan', 'biggan_torch'])
def test_maps_of_the_noise_leave_with_all_that_reads_them(name):
    generator = build_generator(
        STUDENTS[name], residual_masks='shared', masked_linears=['noise2feat']
    )
    masks = dict(named_masks(generator))
    masks['noise2feat'].prune(masks['noise2feat'].channels - 3)
    noise, labels = every_class()
    with torch.no_grad():
        expected = generator(noise, label=labels)
        smaller = discard_channels(generator, example_inputs(generator))
        torch.testing.assert_close(
            smaller(noise, label=labels), expected, rtol=0, atol=1e-5
        )
    block = smaller.conv_blocks[0]
    conv = block.conv_1 if name == 'sagan' else block.conv1
    assert smaller.noise2feat.out_features == 3 * 16
    assert conv.conv.in_channels == block.shortcut.conv.in_channels == 3


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(linears='to_feat'), 'linears: no linear layer matches "to_feat"'),
        (dict(convs='noise2feat'), 'convs: no convolution matches'),
        (dict(linears='to_rgb'), 'linears: no linear layer matches "to_rgb"'),
        (dict(convs=[], linears='noise2feat', exclude='noise2feat'), 'exclude'),
        (dict(exclude='noise2feat'), 'exclude: no convolution matches'),
    ],
)
def test_wrong_names_of_linear_layers_are_refused(arguments, message):
    with pytest.raises(PPCDError, match=message):
        masked_by_name(**arguments)
