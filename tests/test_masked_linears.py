"""Masks on linear layers: their outputs leave, with whatever they become."""

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from channel_checks import (
    Net,
    as_trained,
    call,
    closed_but_moving,
    conv,
    cut,
    leak,
    prune_half,
    prune_some,
)

from ppcd_mmagic.channels import (
    discard_channels,
    largest_difference,
    layer_sizes,
    mask_channels,
    named_masks,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.export import ExportMismatch, compare
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS

INPUTS = (
    torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    torch.randn(2, 6, generator=torch.Generator().manual_seed(2)),
)


def gains_and_biases(s, x, z):
    gain, bias = s.l(z).view(2, -1, 1, 1), s.m(z).view(2, -1, 1, 1)
    return s.o((s.n(s.a(x)) * gain + bias).relu())


def mapping_network(s, x, z):
    features = s.m(s.k(z).relu()).relu()
    return s.o(s.n(s.a(s.l(features).view(2, -1, 4, 4))).relu())


def added_to_a_convolution(s, x, z):
    return s.o((s.a(x) + s.l(z).view(2, -1, 8, 8)).relu())


def channels_last(s, x, z):
    return s.o(s.a(s.l(z).view(2, 4, 4, -1).permute(0, 3, 1, 2)))


def pixel_shuffle(s, x, z):
    return s.o(s.n(F.pixel_shuffle(s.l(z).view(2, -1, 4, 4), 2)))


def used_twice(s, x, z):
    maps = [s.l(y).view(2, -1, 4, 4) for y in (z, 2 * z)]
    return s.o(s.n(s.a(maps[0]) + s.b(maps[1])))


def read_as_maps_and_as_features(s, x, z):
    features = s.l(z)
    return s.o(s.n(s.a(features.view(2, -1, 4, 4)))) + s.m(features).view(
        2, 3, 1, 1
    )


def with_a_bias_of_its_own(s, x, z):
    return s.o((s.l(z).view(2, -1, 8, 8) + s.p).relu())


def with_a_gain_of_the_noise(s, x, z):
    maps = s.l(z).view(2, -1, 8, 8) * s.m(z)[:, :, None, None]
    return s.o((maps + s.k(z)[:, :, None, None]).relu())


def beside_a_convolution(s, x, z):
    return s.o(torch.cat([s.l(z).view(2, -1, 8, 8), s.a(x)], 1))


def normed_before_it_is_a_map(s, x, z):
    return s.o(s.g(s.l(z)).view(2, -1, 4, 4))


def positions_are_picked(s, x, z):
    maps = s.l(z).view(2, -1, 8, 8)
    top, bottom = maps.split(4, 2)
    return s.o(maps[:, :, :4] + bottom[:, :, 0:1] + top)


def tokens(s, x, z):
    read = s.l(x.flatten(2).transpose(1, 2))
    return s.o(read.transpose(1, 2).reshape(2, -1, 8, 8))


# forward; layers; what is left of `l` where half of each mask is pruned
CASES = {
    gains_and_biases: (dict(a=conv(3, 8), l=(6, 8), m=(6, 8)), 4),
    mapping_network: (
        dict(k=(6, 10), m=(10, 12), l=(12, 96), a=conv(6, 8)),
        48,
    ),
    added_to_a_convolution: (dict(a=conv(3, 8), l=(6, 512)), 256),
    channels_last: (dict(l=(6, 96), a=conv(6, 8)), 48),
    pixel_shuffle: (dict(l=(6, 512)), 256),
    used_twice: (dict(l=(6, 96), a=conv(6, 8), b=conv(6, 8)), 48),
    read_as_maps_and_as_features: (
        dict(l=(6, 96), a=conv(6, 8), m=(96, 3)),
        48,
    ),
    with_a_bias_of_its_own: (
        dict(l=(6, 512), p=nn.Parameter(torch.rand(1, 8, 1, 1))),
        256,
    ),
    with_a_gain_of_the_noise: (dict(l=(6, 512), m=(6, 8), k=(6, 8)), 256),
    beside_a_convolution: (dict(l=(6, 256), a=conv(3, 4)), 128),
    positions_are_picked: (dict(l=(6, 512)), 256),
    normed_before_it_is_a_map: (dict(l=(6, 128), g=nn.GroupNorm(32, 128)), 64),
    tokens: (dict(l=(3, 8)), 4),
}
EACH = pytest.mark.parametrize('case', CASES, ids=lambda case: case.__name__)
TIED = pytest.mark.parametrize('tie', [False, True])


def built(case):
    torch.manual_seed(0)
    layers = dict(CASES[case][0], n=nn.BatchNorm2d(8), o=conv(8, 3))
    made = {
        name: nn.Linear(*layer) if isinstance(layer, tuple) else layer
        for name, layer in layers.items()
    }
    return as_trained(Net(case, **copy.deepcopy(made))).eval()


def masked(case, **options):
    net = built(case)
    return net, mask_channels(net, INPUTS, linears='*', **options)


@EACH
@TIED
def test_what_leaves_with_them_reaches_no_output(case, tie):
    net, channels = masked(case, tie=tie)
    prune_some(net)
    assert leak(net, channels, INPUTS) < 1e-6
    assert closed_but_moving(net, channels, INPUTS) == {}


@EACH
def test_as_many_are_left_as_counted_by_hand(case):
    net, channels = masked(case)
    prune_half(net)
    smaller = cut(net, channels, INPUTS)
    assert layer_sizes(smaller)['l'][0] == CASES[case][1]


@EACH
@TIED
def test_they_shrink_with_the_rest_in_training(case, tie):
    net, _ = masked(case, tie=tie)
    prune_half(net)
    expected = call(net, INPUTS)
    adam = torch.optim.Adam(net.parameters())
    assert shrink_channels(net, INPUTS, adam) > 0
    assert layer_sizes(net)['l'][0] == CASES[case][1]
    assert largest_difference(expected, call(net, INPUTS)) < 1e-5


@EACH
@TIED
def test_a_single_map_may_be_left_of_each(case, tie):
    """With one channel a size does not tell what it was a size of."""
    net, channels = masked(case, tie=tie)
    names = set(channels.masks)
    for mask in channels.masks.values():
        mask.prune(mask.channels - 1)
    expected = call(net, INPUTS)
    adam = torch.optim.Adam(net.parameters())
    assert shrink_channels(net, INPUTS, adam) > 0
    assert largest_difference(expected, call(net, INPUTS)) < 1e-5
    assert shrink_channels(net, INPUTS, adam) == 0
    assert {name for name, _ in named_masks(net)} == names
    known = {id(p) for group in adam.param_groups for p in group['params']}
    assert known == {id(parameter) for parameter in net.parameters()}


def test_a_single_map_may_be_left_of_the_noise_of_a_generator():
    generator = MODELS.build(
        dict(
            type='PPResSAGANGenerator',
            output_scale=32,
            noise_size=8,
            num_classes=3,
            base_channels=8,
            masked_linears=['noise2feat'],
        )
    )
    dict(named_masks(generator))['noise2feat'].prune(7)
    inputs = example_inputs(generator)
    expected = call(generator, inputs)
    assert shrink_channels(generator, inputs) == 7
    assert generator.noise2feat.out_features == 16
    assert largest_difference(expected, call(generator, inputs)) < 1e-5


def test_what_is_printed_counts_them():
    net, channels = masked(mapping_network, exclude='k')
    assert (
        str(channels)
        == """\
Net: masks on 1 of 2 convolutions and 2 linear layers
k    10 channels  not masked: excluded by name
m    12 channels  masked, can leave
l    96 channels  masked, can leave in 6 groups
a     8 channels  masked, can leave
o     3 channels  not masked: is the image"""
    )


def of_fixed_size(s, x, z):
    return s.o(s.n(s.l(z).view(2, 8, 4, 4)))


def of_a_parameter(s, x, z):
    return s.o(s.n(s.a(x)) * s.l(s.p).view(1, -1, 1, 1))


CASES_THAT_STAY = {
    of_fixed_size: (dict(l=(6, 128)), 'a view splits it up'),
    of_a_parameter: (
        dict(a=conv(3, 8), l=(6, 8), p=nn.Parameter(torch.rand(6))),
        'l runs without a batch',
    ),
    added_to_a_convolution: (CASES[added_to_a_convolution][0], 'unmasked a'),
}


@pytest.mark.parametrize('case', CASES_THAT_STAY, ids=lambda c: c.__name__)
def test_masks_that_could_discard_nothing_are_refused(case, monkeypatch):
    layers, why = CASES_THAT_STAY[case]
    monkeypatch.setitem(CASES, case, (layers, 0))
    with pytest.raises(PPCDError, match=f'ever be discarded: .*{why}'):
        mask_channels(built(case), INPUTS, convs=[], linears='l')


def test_a_linear_layer_without_a_batch_keeps_what_meets_it():
    net = Net(
        lambda s, x: s.o(s.a(s.p(x)) * s.l(s.k).view(1, -1, 1, 1)),
        p=conv(3, 6),
        a=conv(6, 8),
        l=nn.Linear(6, 8),
        k=nn.Parameter(torch.rand(6)),
        o=conv(8, 3),
    )
    channels = mask_channels(net, INPUTS[:1])
    assert channels.why_not('a') == {'l runs without a batch': 8}
    prune_half(net)
    assert layer_sizes(cut(net, channels, INPUTS[:1]))['p'] == (3, 3)


def rows(s, z, labels):
    return s.o((s.l(z) * s.e(labels)).view(z.size(0), -1, 4, 4))


def test_an_embedding_that_limits_its_rows_keeps_them_whole():
    """The norm of a row is that of all that is in it; only the rows that are
    looked up by the example would be seen to change."""
    net = as_trained(
        Net(
            rows,
            l=nn.Linear(6, 128),
            e=nn.Embedding(5, 128, max_norm=1.0),
            o=conv(8, 3),
        )
    )
    inputs = (INPUTS[1], torch.tensor([0, 0]))
    with pytest.raises(PPCDError, match='e limits the norm of whole rows'):
        mask_channels(net, inputs, convs=[], linears='l')


def test_a_refusal_names_the_patterns_that_found_nothing():
    net = Net(lambda s, x, z: s.l(z).view(2, -1, 4, 4), l=nn.Linear(6, 48))
    with pytest.raises(PPCDError, match='^linears: none .*: is the image'):
        mask_channels(net, INPUTS, convs=[], linears='*')


def test_layers_that_are_not_masked_leave_with_a_map_too():
    """What one value for each map is made of, gain or bias."""
    net = built(with_a_gain_of_the_noise)
    channels = mask_channels(net, INPUTS, convs=[], linears='l')
    prune_half(net)
    smaller = cut(net, channels, INPUTS)
    sizes = layer_sizes(smaller)
    assert (sizes['l'][0], sizes['m'][0], sizes['k'][0]) == (256, 4, 4)


def test_a_difference_behind_a_linear_layer_over_tokens_is_told_as_any_other():
    """Its outputs lie along the last dimension, not behind the batch."""
    module = as_trained(
        Net(lambda s, x: tokens(s, x, None), l=nn.Linear(3, 8), o=conv(8, 3))
    ).eval()
    images = INPUTS[:1]
    mask_channels(module, images, linears='l')
    prune_half(module)
    smaller = discard_channels(module, images)
    assert compare(module, smaller, [(*images, {})]) < 1e-5
    smaller.o.bias.data += 1
    with pytest.raises(ExportMismatch, match='at the output layer'):
        compare(module, smaller, [(*images, {})])
    smaller.l.bias.data += 1
    with pytest.raises(ExportMismatch, match='first at l;'):
        compare(module, smaller, [(*images, {})])
