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
from channel_checks import call, conv, cut, net, prune_some
from torch.utils.checkpoint import checkpoint

from ppcd_mmagic.channels import (
    fit_to_state,
    largest_difference,
    mask_channels,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError


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
