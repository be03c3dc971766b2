"""Sizes and multiply-adds, counted by hand."""

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from channel_checks import Net, as_trained, conv, net, prune_half
from torch.nn.utils import parametrizations, spectral_norm

from ppcd_mmagic.channels import (
    complexity,
    discard_channels,
    mask_channels,
    remaining_complexity,
)

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def behind(layer, run=lambda s, x: s.layer(s.p(x))):
    """A layer that reads the six channels of ``p``, of 8 x 8 pixels."""
    return Net(run, p=conv(3, 6), layer=layer)


def columns(s, x):
    return s.layer(s.p(x).flatten(2).transpose(1, 2))


OF_P = 6 * 3 * 3 * 3 * 8 * 8
# multiply-adds of the layer, with all six channels and with four of them
LAYERS = {
    'convolution': (conv(6, 4), 4 * 6 * 9 * 64, 4 * 4 * 9 * 64),
    'oblong': (nn.Conv2d(6, 4, (1, 3)), 4 * 6 * 3 * 8 * 6, 4 * 4 * 3 * 8 * 6),
    'with a stride': (nn.Conv2d(6, 4, 2, 2), 4 * 6 * 4 * 16, 4 * 4 * 4 * 16),
    'grouped': (conv(6, 4, groups=2), 4 * 3 * 9 * 64, 4 * 2 * 9 * 64),
    # works at every pixel of its input, of which there are fewer
    'transposed': (
        nn.ConvTranspose2d(6, 4, 4, 2, 1),
        4 * 6 * 16 * 64,
        4 * 4 * 16 * 64,
    ),
    'depthwise': (conv(6, 6, groups=6), 6 * 9 * 64, 4 * 9 * 64),
    'norm': (nn.BatchNorm2d(6), 0, 0),
}


@pytest.mark.parametrize('name', LAYERS)
def test_multiply_adds_by_hand(name):
    layer, whole, left = LAYERS[name]
    module = behind(layer)
    module.last = conv(layer.out_channels if whole else 6, 3, 1)
    module.run = lambda s, x: s.last(s.layer(s.p(x)))
    pixels = module.last(layer(torch.zeros(1, 6, 8, 8))).numel()
    inputs = module.last.in_channels
    channels = mask_channels(
        module, IMAGES, exclude=() if whole == 0 else ('layer',)
    )
    assert complexity(module, IMAGES[:1])['multiply_adds'] == (
        OF_P + whole + pixels * inputs
    )
    assert remaining_complexity(channels)['multiply_adds'] == (
        OF_P + whole + pixels * inputs
    )
    # where groups lose the same positions, of each its first
    channels.masks['p'].pruned[[0, 3]] = True
    passed_on = name in ('depthwise', 'norm')
    assert remaining_complexity(channels)['multiply_adds'] == (
        OF_P * 4 // 6 + left + pixels * (4 if passed_on else inputs)
    )


def test_a_linear_layer_works_at_every_position():
    module = behind(nn.Linear(6, 5), columns)
    channels = mask_channels(module, IMAGES)
    assert remaining_complexity(channels)['multiply_adds'] == (
        OF_P + 5 * 6 * 64
    )
    channels.masks['p'].prune(2)
    assert remaining_complexity(channels)['multiply_adds'] == (
        OF_P * 4 // 6 + 5 * 4 * 64
    )
    module = behind(nn.Linear(6, 5), lambda s, x: s.layer(s.p(x).mean((2, 3))))
    assert (
        remaining_complexity(mask_channels(module, IMAGES))['multiply_adds']
        == OF_P + 5 * 6
    )


def test_figures_are_of_one_sample_whatever_the_example_has():
    one, four = (
        remaining_complexity(mask_channels(net(), torch.zeros(n, 3, 8, 8)))
        for n in (1, 4)
    )
    assert one == four == complexity(net(), IMAGES[:1])


def test_a_layer_that_is_used_twice_works_twice_and_is_counted_once():
    module = net(lambda s, y: s.b(s.c(s.c(y))), c=conv(8, 8))
    once = net(lambda s, y: s.b(s.c(y)), c=conv(8, 8))
    twice, single = (
        remaining_complexity(mask_channels(each, IMAGES))
        for each in (module, once)
    )
    assert twice['parameters'] == single['parameters']
    assert twice['multiply_adds'] - single['multiply_adds'] == 8 * 8 * 9 * 64


class InTraining(nn.Module):
    """Does more while it is trained."""

    def __init__(self):
        super().__init__()
        self.first, self.more = conv(3, 4), conv(4, 4)
        self.frozen = nn.BatchNorm2d(4).eval()

    def forward(self, x):
        x = self.first(x)
        return self.more(x) if self.training else x


def test_complexity_is_that_of_evaluation_and_leaves_the_mode(capsys):
    module = InTraining().train()
    module.frozen.eval()
    assert complexity(module, IMAGES[:1]) == dict(
        parameters=(3 * 9 + 1) * 4 + (4 * 9 + 1) * 4 + 8,
        multiply_adds=4 * 3 * 9 * 64,
    )
    assert module.training and module.more.training
    assert not module.frozen.training
    assert not capsys.readouterr().out


def test_the_mode_is_left_also_where_inputs_do_not_fit():
    module = InTraining().train()
    with pytest.raises(RuntimeError):
        complexity(module, torch.zeros(1, 4, 8, 8))
    assert module.training


def test_keyword_arguments_are_counted_with():
    module = Net(
        lambda s, x, twice: s.p(s.p(x)) if twice else s.p(x), p=conv(3, 3)
    )
    module.forward = lambda x, twice=False: module.run(module, x, twice)
    once = complexity(module, (IMAGES[:1],))['multiply_adds']
    assert (
        complexity(module, (IMAGES[:1], dict(twice=True)))['multiply_adds']
        == 2 * once
    )
    assert (
        complexity(module, dict(x=IMAGES[:1], twice=True))['multiply_adds']
        == 2 * once
    )


PARAMETERS = {
    # by layer: its own with all channels and with 4 of p's 6 and 6 of a's 8
    'p': (6 * 27 + 6, 4 * 27 + 4),
    'a': (8 * 54 + 8, 6 * 36 + 6),
    'n': (16, 12),
    'b': (3 * 72 + 3, 3 * 54 + 3),
}


def totals(**more):
    return tuple(map(sum, zip(*PARAMETERS.values(), *more.values())))


def left_of(module):
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    whole = remaining_complexity(channels)['parameters']
    channels.masks['p'].prune(2)
    channels.masks['a'].prune(2)
    return whole, remaining_complexity(channels)['parameters']


def test_parameters_by_hand():
    assert left_of(net()) == totals()


def test_parameters_of_the_module_s_own_and_of_layers_without_channels():
    module = net(
        lambda s, y: s.b(y * s.w) + s.e(s.steps).mean(),
        w=nn.Parameter(torch.ones(8, 1, 1)),
        e=nn.Embedding(5, 4),
        scale=nn.Parameter(torch.ones(3)),
        steps=torch.tensor(0),
    )
    assert left_of(module) == totals(w=(8, 6), e=(20, 20), scale=(3, 3))


def test_parameters_that_layers_share_are_counted_once():
    module = net(lambda s, y: s.b(y) + s.c(y), c=conv(8, 3))
    module.c.weight = module.b.weight
    # a stays, since what two layers share is not cut
    own = {
        **PARAMETERS,
        'a': (8 * 54 + 8, 8 * 36 + 8),
        'n': (16, 16),
        'b': (3 * 72 + 3,) * 2,
        'bias of c': (3, 3),
    }
    assert left_of(module) == tuple(map(sum, zip(*own.values())))


@pytest.mark.parametrize(
    'wrap', [spectral_norm, parametrizations.spectral_norm]
)
def test_spectral_norm_adds_no_parameters(wrap):
    module = net()
    module.a = wrap(module.a)
    assert left_of(module) == totals()


def test_scores_are_not_counted():
    module = net()
    channels = mask_channels(module, IMAGES)
    assert (
        complexity(module, IMAGES)['parameters']
        == remaining_complexity(channels)['parameters'] + 6 + 8
    )


def frames_in_the_batch(s, x):
    frames = s.layer(x.repeat_interleave(4, 0))
    return s.o(frames.view(x.size(0), 4, -1, 8, 8).mean(1))


def positions_in_the_batch(s, x):
    read = s.layer(x.permute(0, 2, 3, 1).reshape(-1, 3))
    return s.o(read.view(x.size(0), 8, 8, -1).permute(0, 3, 1, 2))


def sequence_first(s, x):
    read = s.layer(x.flatten(2).permute(2, 0, 1))
    return s.o(read.permute(1, 2, 0).reshape(x.size(0), -1, 8, 8))


def attention(s, x):
    read = s.layer(x.flatten(2).transpose(1, 2))
    seen = F.scaled_dot_product_attention(read, read, read)
    return s.a(seen.transpose(1, 2).reshape(x.size(0), -1, 8, 8)) + s.o(s.m(x))


def attention_layer(s, x):
    read = x.flatten(2).transpose(1, 2)
    return s.o(s.m(x)) + s.layer(read, read, read)[0].sum(1)[..., None, None]


def recurrent(s, x):
    return s.o(s.m(x)) + s.layer(x.flatten(2).transpose(1, 2))[0].mean()


def with_a_kernel_of_its_own(s, x):
    return F.conv2d(s.o(s.m(x)), s.layer)


def with_a_constant(s, x):
    return s.o(s.m(x)) + F.linear(s.constant, s.layer).view(1, 3, 1, 1)


def with_a_sum_by_einstein(s, x):
    return (
        s.o(s.m(x)) + torch.einsum('nchw,dc->nd', x, s.layer)[..., None, None]
    )


OF_M_AND_O = 2 * 8 * 3 * 9 * 64  # of two convolutions, 3 -> 8 -> 3
PLACES = {
    frames_in_the_batch: (conv(3, 8), OF_M_AND_O // 2 * (4 + 1)),
    positions_in_the_batch: (nn.Linear(3, 8), 8 * 3 * 64 + OF_M_AND_O // 2),
    sequence_first: (nn.Linear(3, 8), 8 * 3 * 64 + OF_M_AND_O // 2),
    attention: (nn.Linear(3, 8), 8 * 3 * 64 + 2 * 8 * 64 * 64 + 3 * 8 * 9 * 64),
    attention_layer: (
        nn.MultiheadAttention(3, 1, batch_first=True),
        4 * 3 * 3 * 64 + 2 * 3 * 64 * 64,
    ),
    recurrent: (nn.LSTM(3, 5, batch_first=True), 4 * 5 * (3 + 5) * 64),
    with_a_kernel_of_its_own: (nn.Parameter(torch.ones(3, 3, 1, 1)), 9 * 64),
    with_a_constant: (nn.Parameter(torch.ones(3, 4)), 3 * 4),
    with_a_sum_by_einstein: (nn.Parameter(torch.ones(3, 3)), 9),
}


@pytest.mark.parametrize('run', PLACES)
def test_products_are_counted_wherever_they_are_and_both_ways_alike(run):
    layer, products = PLACES[run]
    module = Net(
        run,
        layer=layer,
        a=conv(8, 3),
        m=conv(3, 8),
        o=conv(8, 3),
        constant=torch.ones(1, 4),
    )
    if run not in list(PLACES)[:3]:
        products += OF_M_AND_O
    fused = torch.backends.cuda.flash_sdp_enabled()
    found = complexity(module, IMAGES[:1])['multiply_adds']
    assert found == pytest.approx(products, rel=0.02)
    for samples in (1, 2):
        named = dict(convs='m')
        if run is frames_in_the_batch:
            named = dict(convs='layer')
        elif run in (positions_in_the_batch, sequence_first):
            named = dict(convs=(), linears='layer')
        channels = mask_channels(
            copy.deepcopy(module), IMAGES[:samples], **named
        )
        assert remaining_complexity(channels)['multiply_adds'] == found
    assert torch.backends.cuda.flash_sdp_enabled() == fused


@pytest.mark.parametrize(
    'wrap', [parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_a_computed_weight_counts_as_the_one_it_is_folded_to(wrap):
    module = as_trained(
        Net(
            lambda s, z: s.o(s.l(z).view(z.size(0), -1, 4, 4)),
            l=wrap(nn.Linear(6, 128)),
            o=conv(8, 3),
        )
    )
    noise = torch.randn(2, 6)
    channels = mask_channels(module, noise, linears='*')
    prune_half(module)
    said = remaining_complexity(channels)
    assert said == complexity(discard_channels(module, noise), noise[:1])
    assert said['parameters'] < 6 * 128
