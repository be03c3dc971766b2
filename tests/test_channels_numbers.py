"""Nets that compute with numbers of channels, or use a parameter twice.

Removal changes such a number, and what is cut must stay exact all the same:
nothing but the comparison would notice where a training shrinks its network.
"""

import copy
import math
from fractions import Fraction

import numpy
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from channel_checks import Net, call, conv, cut, net, prune_some
from torch.utils.checkpoint import checkpoint

from ppcd_mmagic.channels import (
    fit_to_state,
    largest_difference,
    mask_channels,
    named_masks,
    shrink_channels,
    zero_dead_channels,
)
from ppcd_mmagic.errors import PPCDError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def other(outputs):
    return dict(c=conv(8, outputs))


NETS = dict(
    size_less_four=lambda: net(lambda s, y: s.b(y[:, : y.size(1) - 4]), 4),
    half_the_height=lambda: net(lambda s, y: s.b(y[:, : y.size(2) // 2]), 4),
    size_of_another=lambda: net(
        lambda s, y: s.b(y[:, : s.c(y).size(1)]), 4, **other(4)
    ),
    integer_of_numpy=lambda: net(lambda s, y: s.b(y[:, : numpy.int64(4)]), 4),
    times=lambda: net(lambda s, y: s.b(y * y.size(1))),
    divided=lambda: net(lambda s, y: s.b(y / y.size(1))),
    root=lambda: net(lambda s, y: s.b(y * math.sqrt(y.size(1)))),
    power=lambda: net(lambda s, y: s.b(y * y.shape[1] ** -0.5)),
    branch=lambda: net(lambda s, y: s.b(y if y.shape[1] == 8 else -y)),
    numel=lambda: net(lambda s, y: s.b(y * (y.numel() / 1024))),
    length=lambda: net(lambda s, y: s.b(y * len(y[0]))),
    view_by_height=lambda: net(
        lambda s, y: s.b(y.view(y.size(0), y.size(2), 8, y.size(3)))
    ),
    norms_weight=lambda: net(
        lambda s, y: s.b(y * s.n.weight.view(1, -1, 1, 1))
    ),
    weight_of_reader=lambda: net(
        lambda s, y: s.b(y) + F.conv2d(y, s.b.weight, padding=1)
    ),
    convolution_of_a_parameter=lambda: net(
        lambda s, y: s.b(F.conv2d(y, s.w, padding=1)),
        w=nn.Parameter(torch.randn(8, 8, 3, 3)),
    ),
    stacked=lambda: net(
        lambda s, y: s.b(torch.stack([y, s.c(y)], 2).flatten(1, 2)),
        16,
        **other(8),
    ),
    side_by_side=lambda: net(
        lambda s, y: s.b(torch.cat([y, s.c(y)], 3)), **other(8)
    ),
    lstm=lambda: net(
        lambda s, y: s.b(y).mean() + s.r(y.flatten(2).transpose(1, 2))[0],
        r=nn.LSTM(8, 4, batch_first=True),
    ),
    attention=lambda: net(
        lambda s, y: (
            s.b(y).mean() + s.m(*[y.flatten(2).transpose(1, 2)] * 3)[0]
        ),
        m=nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    unfold=lambda: net(
        lambda s, y: s.b(y).mean() + s.l(F.unfold(y, 2).transpose(1, 2)),
        l=nn.Linear(32, 4),
    ),
    two_into_groups=lambda: net(
        lambda s, y: s.b(s.g(torch.cat([y, s.c(y)], 1))),
        6,
        g=conv(12, 6, groups=3),
        **other(4),
    ),
    checkpointed=lambda: net(
        lambda s, y: s.b(checkpoint(s.c, y, use_reentrant=False)), 8, **other(8)
    ),
    double=lambda: net(lambda s, y: s.b(y)).double(),
    brain_float=lambda: net(lambda s, y: s.b(y)).bfloat16(),
    channels_last=lambda: net(lambda s, y: s.b(y)).to(
        memory_format=torch.channels_last
    ),
)
BOTH = pytest.mark.parametrize(
    'tie', [False, True], ids=['independent', 'tied']
)


@pytest.mark.parametrize('name', NETS)
@BOTH
def test_cut_out_and_shrunk_it_computes_the_same(name, tie):
    module = NETS[name]()
    images = torch.randn(2, 3, 8, 8).to(module.p.weight.dtype)
    channels = mask_channels(module, images, tie=tie)
    prune_some(module)
    expected = call(module, images)
    assert channels.leaving_of('p').sum() == 3
    cut(module, channels, images)
    optimizer = torch.optim.Adam(module.parameters())
    assert shrink_channels(module, images, optimizer) >= 3
    assert largest_difference(expected, call(module, images)) < 1e-5


def squeeze_and_excite(s, y):
    b, c, _, _ = y.size()
    return s.b(y * s.e(y.mean((2, 3)).view(b, c)).view(b, c, 1, 1))


def conditional(s, y):
    gains, shifts = s.e(y.mean((2, 3))).split(y.size(1), 1)
    gains = gains.view(-1, y.size(1), 1, 1)
    return s.b(gains * y + shifts.view(-1, y.size(1), 1, 1))


def split_back(s, y, sizes=lambda y, z: [y.size(1), z.size(1)]):
    z = s.c(y)
    first, second = torch.cat([y, z], 1).relu().split(sizes(y, z), 1)
    return s.b(first) + s.e(second)


def sliced_back(s, y):
    z = torch.cat([y, s.c(y)], 1).relu()
    return s.b(z[:, : y.size(1)]) + s.e(z[:, y.size(1) :])


SIZES_OF_PARTS = dict(
    squeeze_and_excite=lambda: net(
        squeeze_and_excite,
        e=nn.Sequential(
            nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid()
        ),
    ),
    conditional=lambda: net(conditional, e=nn.Linear(8, 16)),
    split_back=lambda: net(split_back, c=conv(8, 4), e=conv(4, 3)),
    one_part_of_fixed_size=lambda: net(
        lambda s, y: split_back(s, y, lambda y, z: [y.size(1), 4]),
        c=conv(8, 4),
        e=conv(4, 3),
    ),
    sliced_back=lambda: net(sliced_back, c=conv(8, 4), e=conv(4, 3)),
)


@pytest.mark.parametrize('name', SIZES_OF_PARTS)
@BOTH
def test_sizes_may_be_of_what_meets_it_or_is_beside_it(name, tie):
    module = SIZES_OF_PARTS[name]()
    channels = mask_channels(module, IMAGES, tie=tie)
    prune_some(module)
    assert channels.leaving_of('a').sum() == 4
    if 'c' in channels.masks:
        assert channels.leaving_of('c').any() == ('fixed' not in name)
    cut(module, channels, IMAGES)
    expected = call(module, IMAGES)
    shrink_channels(module, IMAGES)
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5


UNFIT_SIZES = dict(
    of_what_never_meets_it=lambda s, y: s.b(
        s.c(y).view(y.size(0), y.size(1), -1).unsqueeze(3)
    ),
    of_a_part_that_is_elsewhere=lambda s, y: s.b(
        torch.cat([s.c(y), y], 1)[:, : y.size(1)]
    ),
    as_a_step=lambda s, y: s.b(torch.cat([y[:, :: y.size(1) // 2]] * 4, 1)),
)


@pytest.mark.parametrize('name', UNFIT_SIZES)
def test_sizes_of_what_does_not_meet_it_keep_both(name):
    module = net(UNFIT_SIZES[name], c=conv(8, 8))
    channels = mask_channels(module, IMAGES)
    module.a.mask.pruned[:4] = True
    assert not channels.leaving_of('a').any()
    cut(module, channels, IMAGES)


SIZES_OF_OTHERS = dict(
    expanded=lambda x, c: x[:, :1].expand(-1, c, -1, -1).sum(1, keepdim=True),
    expanded_and_joined=lambda x, c: torch.cat(
        [x, x[:, :1].expand(-1, c, -1, -1)], 1
    ).sum(1, keepdim=True),
    repeated=lambda x, c: x[:, :1].repeat(1, c, 1, 1).sum(1, keepdim=True),
    sliced=lambda x, c: x[:, :, : c // 2].mean((1, 2, 3), keepdim=True),
    indexed=lambda x, c: x[:, :, c // 2].mean((1, 2)).view(-1, 1, 1, 1),
    picked=lambda x, c: x[:, :, [c // 2, 0]].mean((1, 2, 3), keepdim=True),
    viewed=lambda x, c: x.reshape(x.size(0), c, -1)[:, 0].mean(1)[
        :, None, None, None
    ],
    chunked=lambda x, c: x.chunk(c, 2)[0].mean((1, 2, 3), keepdim=True),
    split=lambda x, c: x.split(c // 2, 2)[0].mean((1, 2, 3), keepdim=True),
    split_by_name=lambda x, c: x.split(split_size=c // 2, dim=2)[0].mean(
        (1, 2, 3), keepdim=True
    ),
    split_in_several=lambda x, c: x.split([c // 2, 8 - c // 2], 2)[0].mean(
        (1, 2, 3), keepdim=True
    ),
)


@pytest.mark.parametrize('name', SIZES_OF_OTHERS)
def test_numbers_that_are_used_on_what_does_not_vary_stay(name):
    module = net()
    module.run = lambda s, x: (
        s.b(s.n(s.a(s.p(x).relu())))
        * SIZES_OF_OTHERS[name](x, s.a(s.p(x).relu()).size(1))
    )
    channels = mask_channels(module, IMAGES)
    prune_some(module)
    assert not channels.leaving_of('a').any()
    assert all(
        'number is used by' in why or 'size of another' in why
        for why in channels.why_not('a')
    )
    cut(module, channels, IMAGES)
    expected = call(module, IMAGES)
    assert shrink_channels(module, IMAGES) == 3
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5


MISTAKEN_SIZES = dict(
    split_by_another=lambda s, y: s.d(y.split(s.c(y).size(1), 1)[0]),
    rows_of_as_many=lambda s, y: s.e(y.view(y.size(0), -1, y.size(1))),
)


@pytest.mark.parametrize('name', MISTAKEN_SIZES)
def test_sizes_that_are_not_its_own_keep_channels(name):
    module = net(
        lambda s, y: MISTAKEN_SIZES[name](s, y).mean() + s.b(y),
        d=conv(4, 3),
        e=nn.Conv1d(64, 5, 1),
        **other(4),
    )
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    module.a.mask.pruned[[0, 3, 4, 7]] = True  # the same of either half
    assert not channels.leaving_of('a').any()
    cut(module, channels, IMAGES)


def channel_shuffle(s, y):
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


FEW = dict(
    shuffled=lambda: net(lambda s, y: s.b(channel_shuffle(s, y))),
    pairs=lambda: net(
        lambda s, y: s.b(
            y.view(y.size(0), -1, 2, 8, 8).flip(2).reshape(y.size(0), -1, 8, 8)
        )
    ),
    grouped=lambda: net(lambda s, y: s.b(s.g(y)), g=conv(8, 8, groups=2)),
    added_with_a_gain=lambda: net(
        lambda s, y: s.b((y + s.c(y)) * s.g),
        g=nn.Parameter(torch.rand(1, 8, 1, 1) + 0.5),
        **other(8),
    ),
    depthwise=lambda: net(lambda s, y: s.b(y + s.g(y)), g=conv(8, 8, groups=8)),
    scaled_and_gated=lambda: net(
        lambda s, y: s.b((y + s.c(y)) * s.g * s.d(y).sigmoid()),
        g=nn.Parameter(torch.rand(1)),
        d=conv(8, 1),
        **other(8),
    ),
    gray=lambda: net(
        lambda s, y: s.b(y + s.c(y) * y.mean(1, keepdim=True)), **other(8)
    ),
    of_two_parts=lambda: net(
        lambda s, y: s.b(torch.cat([s.c(y) * s.g, s.d(y)], 1) + s.e(y)),
        g=nn.Parameter(torch.rand(1)),
        d=conv(8, 4),
        e=conv(8, 8),
        **other(4),
    ),
)


# untied, a grouped convolution of as many channels as groups loses one by one
@pytest.mark.parametrize(
    'name, tie',
    [
        (name, tie)
        for name in FEW
        for tie in (False, True)
        if tie or name != 'grouped'
    ],
)
def test_down_to_a_channel_masks_stay_as_they_were(name, tie):
    """With one channel what is one value for all looks as what is one for
    each; a mask that came or went now would be in no optimizer."""
    module = FEW[name]()
    names = set(mask_channels(module, IMAGES, tie=tie).masks)
    for _, mask in named_masks(module):
        mask.prune(mask.channels - 1)
    expected = call(module, IMAGES)
    adam = torch.optim.Adam(module.parameters())
    assert shrink_channels(module, IMAGES, adam) > 0
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5
    shrink_channels(module, IMAGES, adam)
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5
    assert {name for name, _ in named_masks(module)} == names
    fresh = FEW[name]()
    mask_channels(fresh, IMAGES, tie=tie)
    fit_to_state(fresh, IMAGES, module.state_dict())
    fresh.load_state_dict(module.state_dict())
    assert largest_difference(expected, call(fresh, IMAGES)) < 1e-5


# what may be made of a number without torch
MADE = dict(
    whole=lambda y: int(y.size(1)),
    negative=lambda y: -y.size(1),
    absolute=lambda y: abs(y.size(1)),
    rounded=lambda y: round(y.size(1)),
    rounded_up=lambda y: math.ceil(y.size(1)),
    truncated=lambda y: math.trunc(y.size(1)),
    shifted=lambda y: y.size(1) >> 1,
    shifts=lambda y: 1 << y.size(1),
    bits=lambda y: 1 + (y.size(1) & 8) + (8 | y.size(1)),
    length_in_bits=lambda y: y.size(1).bit_length(),
    text=lambda y: float(f'{y.size(1)}'),
    also_text=lambda y: float(str(y.size(1))),
    of_a_table=lambda y: {4: 2.0}.get(y.size(1), 1.0),
    of_a_set=lambda y: 2.0 if y.size(1) in {4} else 1.0,
    root_by_numpy=lambda y: float(numpy.sqrt(y.size(1))),
    product_by_numpy=lambda y: int(numpy.prod(y.shape)) / 1024,
    fraction=lambda y: float(Fraction(y.size(1), 3)),
    stride=lambda y: y.stride(0) / 512,
    bytes=lambda y: y.nbytes / 4096,
    memory=lambda y: y.untyped_storage().nbytes() / 4096,
)


@pytest.mark.parametrize('name', MADE)
def test_what_python_makes_of_a_number_keeps_its_channels(name):
    module = net(lambda s, y: s.b(y) * MADE[name](y))
    images = torch.randn(2, 3, 8, 8)
    channels = mask_channels(module, images)
    prune_some(module)
    assert not channels.leaving_of('a').any()
    cut(module, channels, images)


READ = dict(
    writers=lambda s, y: s.b(y) / s.a.out_channels**0.5,
    readers=lambda s, y: s.b(y) / s.b.in_channels**0.5,
    norms=lambda s, y: s.b(y) * s.n.num_features,
    inside_of_a_child=lambda s, y: s.b(y) * s.d(y),
)


class Divisor(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layers = nn.ModuleDict(dict(layer=layer))

    def forward(self, x):
        return 1 / self.layers['layer'].num_features


@pytest.mark.parametrize('name', READ)
def test_a_number_that_is_read_of_a_layer_keeps_its_channels(name):
    module = net(READ[name])
    module.d = Divisor(module.n)
    images = torch.randn(2, 3, 8, 8)
    channels = mask_channels(module, images)
    prune_some(module)
    assert not channels.leaving_of('a').any()
    assert channels.leaving_of('p').sum() == 3
    cut(module, channels, images)
    assert '__getattribute__' not in vars(nn.Module)


@pytest.mark.parametrize(
    'end',
    [
        lambda y: y.size(1) - y.size(2) // 2,
        lambda y: y.size(2) // 2 - 2 * y.size(0) + y.size(1) // 2,
    ],
)
def test_a_size_that_stays_is_no_part_of_one_that_goes(end):
    module = net(lambda s, y: s.b(y[:, : end(y)]), 4)
    images = torch.randn(2, 3, 8, 8)
    channels = mask_channels(module, images)
    channels.masks['p'].prune(3)
    channels.masks['a'].pruned[[0, 4]] = True  # of both halves
    assert not channels.leaving_of('a').any()
    cut(module, channels, images)


def test_numbers_that_do_not_vary_may_be_computed_with():
    module = net(lambda s, y: s.b(y) * int(y.size(2) >> 1))
    channels = mask_channels(module, torch.randn(2, 3, 8, 8))
    prune_some(module)
    assert channels.leaving_of('a').sum() == 4


def tied_weights():
    module = net(lambda s, y: s.b(y) + s.c(y), c=conv(8, 3))
    module.c.weight = module.b.weight
    return module


REFUSED = dict(
    weight_beside=(
        lambda: net(lambda s, y: s.b(y) * s.a.weight.norm()),
        'a.weight is used beside its layer',
    ),
    bias_beside=(
        lambda: net(lambda s, y: s.b(y + s.a.bias.view(1, -1, 1, 1))),
        'a.bias is used beside its layer',
    ),
)


@pytest.mark.parametrize('name', REFUSED)
def test_a_layer_whose_parameter_is_used_elsewhere_carries_no_mask(name):
    build, why = REFUSED[name]
    with pytest.raises(PPCDError, match=why):
        mask_channels(build(), torch.randn(2, 3, 8, 8), convs='a')


def test_layers_that_share_a_weight_keep_it():
    module, images = tied_weights(), torch.randn(2, 3, 8, 8)
    channels = mask_channels(module, images)
    prune_some(module)
    assert all('shares a parameter' in why for why in channels.why_not('a'))
    cut(module, channels, images)


def one_memory():
    module = net(lambda s, y: s.b(y) + s.c(2 * y), c=conv(8, 3))
    module.c.weight.data = module.b.weight.data
    return module


def a_part_of_it():
    module = net(lambda s, y: s.b(y) + s.c(s.d(y)), c=conv(4, 3), d=conv(8, 4))
    whole = module.b.weight.data.transpose(0, 1)
    module.c.weight.data = whole[2:6].transpose(0, 1)
    return module


def held_beside():
    module = net(lambda s, y: s.b(y) + s.held.sum())
    module.held = module.b.weight.data
    return module


@pytest.mark.parametrize('build', [one_memory, a_part_of_it, held_beside])
def test_layers_that_share_memory_keep_it(build):
    module = build()
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    prune_some(module)
    assert not channels.leaving_of('a').any()
    expected = call(module, IMAGES)
    zero_dead_channels(module, IMAGES)
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5
    assert shrink_channels(module, IMAGES) == 3
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5


def test_a_parameter_of_two_names_stays_whole():
    """One that is cut under one name would stay as it was under the other."""
    module = net(
        lambda s, y: s.b(y * s.g + s.h), g=nn.Parameter(torch.rand(1, 8, 1, 1))
    )
    module.h = module.g
    channels = mask_channels(module, IMAGES)
    prune_some(module)
    why = 'meets a constant that has all its channels'
    assert channels.why_not('a') == {why: 8}
    cut(module, channels, IMAGES)


def test_parameters_in_one_buffer_are_not_one_parameter():
    module = net()
    flat = torch.cat([p.data.flatten() for p in module.parameters()])
    start = 0
    for p in module.parameters():
        p.data = flat[start : start + p.numel()].view(p.shape)
        start += p.numel()
    channels = mask_channels(module, IMAGES)
    prune_some(module)
    assert channels.leaving_of('a').sum() == 4


def test_a_copy_with_folded_spectral_norm_leaves_the_original_its_weight():
    from torch.nn.utils import parametrizations

    from ppcd_mmagic.channels import fold_computed_weights

    module = parametrizations.spectral_norm(conv(3, 8)).eval()
    weight = module.weight.clone()
    fold_computed_weights(copy.deepcopy(module))
    assert torch.equal(module.weight, weight)


def masked(tie=False):
    module, images = net(lambda s, y: s.b(y)), torch.randn(2, 3, 8, 8)
    mask_channels(module, images, tie=tie)
    return module, images


@BOTH
def test_masks_that_are_there_are_not_tied_or_untied(tie):
    module, images = masked(tie)
    with pytest.raises(PPCDError, match=f'tie={tie}'):
        mask_channels(module, images, tie=not tie)


@BOTH
def test_masks_asked_for_again_stay_as_they_are(tie):
    module, images = masked(tie)
    prune_some(module)
    expected = call(module, images)
    mask_channels(module, images, tie=tie)
    assert largest_difference(expected, call(module, images)) == 0


def film(s, x, z):
    gains, biases = s.l(z).chunk(2, 1)
    y = s.n(s.a(x)) * gains[..., None, None]
    return s.b((y + biases[..., None, None]).relu())


ONE_AFTER_THE_OTHER = dict(
    added=(
        lambda: net(lambda s, y: s.b(y + s.c(y)), **other(8)),
        [dict(convs=['p', 'c']), dict(convs=['a'])],
        {'p', 'c'},
    ),
    linear_first=(
        lambda: Net(
            film,
            a=conv(3, 8),
            n=nn.BatchNorm2d(8),
            l=nn.Linear(6, 16),
            b=conv(8, 3),
        ),
        [dict(convs=(), linears='l'), dict()],
        {'l'},
    ),
)


@pytest.mark.parametrize('name', ONE_AFTER_THE_OTHER)
def test_masks_that_come_later_share_the_scores_that_are_there(name):
    build, calls, owners = ONE_AFTER_THE_OTHER[name]
    module = build()
    inputs = (IMAGES, torch.ones(2, 6)) if name == 'linear_first' else IMAGES
    for options in calls:
        channels = mask_channels(module, inputs, tie=True, **options)
    assert set(channels.masks) == owners
    prune_some(module)
    cut(module, channels, inputs)
    assert set(channels.leaving_of('a').tolist()) == {True, False}


def test_a_mask_that_nothing_would_ask_for_is_refused():
    """Its entries would count as channels, and have no gradient."""
    module = net(
        lambda s, y: s.b(y + s.c(y) + s.d(y)), c=conv(8, 8), d=conv(8, 8)
    )
    mask_channels(module, IMAGES, convs=['p', 'a', 'c'], tie=True)
    before = list(module.state_dict())
    with pytest.raises(PPCDError, match='c has 8 entries for 0 .* all at once'):
        mask_channels(module, IMAGES, convs='d', tie=True)
    assert list(module.state_dict()) == before


@pytest.mark.parametrize('inputs', [torch.randn(2, 4, 8, 8), ()])
def test_inputs_that_the_module_does_not_take_are_one_line(inputs):
    with pytest.raises(PPCDError, match='Net does not run on the example'):
        mask_channels(net(lambda s, y: s.b(y)), inputs)


@BOTH
def test_a_state_fits_a_module_after_shrinking(tie):
    first, images = masked(tie)
    prune_some(first)
    shrink_channels(first, images)
    second, _ = masked(tie)
    fit_to_state(second, images, first.state_dict())
    second.load_state_dict(first.state_dict())
    assert largest_difference(call(first, images), call(second, images)) == 0
