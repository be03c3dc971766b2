"""What cannot be cut is found out on copies: before a training, and before
anything of a module in training is changed."""

import copy
import re

import pytest
import torch
import torch.nn as nn
from channel_checks import Net, conv, prune_half
from torch.nn.utils.parametrizations import weight_norm

from ppcd_mmagic.channels import (
    ExportMismatch,
    discard_channels,
    largest_difference,
    mask_channels,
    outputs_of,
    rehearse,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def masked(run, **layers):
    """Fresh from its initialization: what zeros hide has to be found."""
    torch.manual_seed(0)
    layers = {
        'a': conv(3, 8),
        'n': nn.BatchNorm2d(8),
        'b': conv(8, 3),
        **layers,
    }
    net = Net(run, **layers)
    mask_channels(net, IMAGES)
    return net


def plain(s, x):
    return s.b(s.n(s.a(x)).relu())


def divided_by_its_width(s, x):
    return plain(s, x) / int(re.findall(r'\d+', repr(s.b))[1])


def needs_eight(s, x):
    if 'Conv2d(8' not in repr(s.b):
        raise ValueError('8 channels, please')
    return plain(s, x)


def test_a_module_stays_as_it_is():
    net = masked(plain)
    state, images = copy.deepcopy(net.state_dict()), outputs_of(net, IMAGES)
    numbers = torch.get_rng_state()
    net.train()
    rehearse(net, IMAGES)
    assert torch.equal(numbers, torch.get_rng_state())
    assert net.training and net.a.weight.requires_grad
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert largest_difference(images, outputs_of(net, IMAGES)) == 0


def test_a_factor_that_follows_the_width_is_found_before_the_training():
    with pytest.raises(ExportMismatch, match='Without its dead channels Net'):
        rehearse(masked(divided_by_its_width), IMAGES)


def deep(s, x):
    x = s.a(x)
    for layer in (s.c, s.d, s.e):
        x = layer(x)
    return s.b(x).tanh()


def deep_by_its_width(s, x):
    return deep(s, x) / int(re.findall(r'\d+', repr(s.b))[1])


def overflowing(run):
    """As spectral norm leaves it, before training, if its guess of a weight's
    largest singular value is far too small."""
    layers = {name: conv(8, 8) for name in 'cde'}
    net = masked(run, n=nn.Identity(), **layers)
    with torch.no_grad():
        for layer in (net.a, *layers.values()):
            layer.weight.mul_(1e12)
    assert not net(IMAGES).isfinite().all()
    return net


def test_what_overflows_before_training_is_rehearsed_at_another_scale():
    rehearse(overflowing(deep), IMAGES)
    with pytest.raises(ExportMismatch):
        rehearse(overflowing(deep_by_its_width), IMAGES)


def test_channels_are_taken_out_of_what_overflows_in_single_precision():
    net = overflowing(deep)
    prune_half(net)
    shrink_channels(net, IMAGES)
    assert net.a.out_channels < 8


def not_a_number_if_cut(s, x):
    y = plain(s, x)
    whole = 'Conv2d(8' in repr(s.b)
    return y if whole or x.dtype == torch.float64 else y * float('nan')


def test_a_cut_that_makes_numbers_of_none_is_a_wrong_one():
    net = masked(not_a_number_if_cut)
    with pytest.raises(ExportMismatch, match='differs by nan'):
        rehearse(net, IMAGES)
    prune_half(net)
    with pytest.raises(ExportMismatch, match='differs by nan'):
        shrink_channels(net, IMAGES)
    assert net.b.in_channels == 8


def test_what_is_not_a_number_is_not_taken_for_a_wrong_cut():
    net = masked(lambda s, x: plain(s, x) * float('nan'))
    with pytest.raises(PPCDError, match='Net computes nan or inf') as caught:
        rehearse(net, IMAGES)
    assert not isinstance(caught.value, ExportMismatch)


def test_what_does_not_run_with_fewer_channels_is_named():
    net = masked(needs_eight)
    with pytest.raises(PPCDError, match='does not run .*8 channels, please'):
        rehearse(net, IMAGES)


@pytest.mark.parametrize('run', [divided_by_its_width, needs_eight])
def test_a_module_that_cannot_be_cut_stays_whole(run):
    net = masked(run)
    prune_half(net)
    expected = outputs_of(net, IMAGES)
    adam = torch.optim.Adam(net.parameters())
    with pytest.raises(PPCDError):
        shrink_channels(net, IMAGES, adam)
    assert net.a.weight.shape == (8, 3, 3, 3)
    assert {id(p) for p in adam.param_groups[0]['params']} == {
        id(p) for p in net.parameters()
    }
    assert largest_difference(expected, outputs_of(net, IMAGES)) == 0


def test_a_weight_of_unknown_making_is_refused_before_anything_is_cut():
    net = masked(lambda s, x: s.b(s.m(s.a(x))), m=weight_norm(conv(8, 8)))
    rehearse(net, IMAGES)  # an export folds it
    prune_half(net)
    with pytest.raises(PPCDError, match='fold it'):
        shrink_channels(net, IMAGES)
    assert net.a.weight.shape == (8, 3, 3, 3)
    assert outputs_of(net, IMAGES)


def weight_of_its_own(s, x):
    s.c.weight = s.w(x.mean((2, 3))).mean(0).view(8, 8, 3, 3)
    return s.b(s.c(s.a(x).relu()))


def computed():
    layer = conv(8, 8)
    del layer._parameters['weight']
    layer.weight = torch.zeros(8, 8, 3, 3)
    return masked(weight_of_its_own, c=layer, w=nn.Linear(3, 576))


@pytest.mark.parametrize('cut', [rehearse, discard_channels, shrink_channels])
def test_whoever_cuts_says_that_the_cut_network_does_not_run(cut):
    """It is not the example inputs that do not fit."""
    net = computed()
    prune_half(net)
    with pytest.raises(PPCDError, match='does not run without') as caught:
        cut(net, IMAGES)
    assert 'Give inputs' not in str(caught.value)


IN_TRAINING = dict(
    another_output=lambda s, y: (s.b(y), s.c(y)) if s.training else s.b(y),
    another_layer=lambda s, y: s.b(y + s.d(y) if s.training else y),
    a_view=lambda s, y: s.b(y.view(-1, 8, 8, 8) if s.training else y),
    over_channels=lambda s, y: s.b(
        y / (1 + y.mean(1, keepdim=True) ** 2) if s.training else y
    ),
)


@pytest.mark.parametrize('name', IN_TRAINING)
def test_what_only_the_training_does_is_tried_too(name):
    net = masked(
        lambda s, x: IN_TRAINING[name](s, s.n(s.a(x)).relu()),
        c=conv(8, 3),
        d=conv(8, 8),
    )
    with pytest.raises(PPCDError, match='in training mode'):
        rehearse(net, IMAGES)
    prune_half(net)
    with pytest.raises(PPCDError, match='in training mode'):
        shrink_channels(net, IMAGES)
    assert net.a.out_channels == 8


NOISES = dict(
    dropout=lambda s, y: s.drop(y),
    dropout2d=lambda s, y: nn.functional.dropout2d(y, 0.3, s.training),
    slope=lambda s, y: (
        nn.functional.rrelu(y, training=True) if s.training else y.relu()
    ),
    noise=lambda s, y: y + torch.randn_like(y) if s.training else y,
    noise_map=lambda s, y: y * torch.randn(1, 1, 8, 8),
)


@pytest.mark.parametrize('name', NOISES)
def test_fewer_random_numbers_of_fewer_channels_are_no_fault(name):
    net = masked(
        lambda s, x: s.b(NOISES[name](s, s.n(s.a(x)))), drop=nn.Dropout(0.5)
    )
    mean = net.n.running_mean.clone()
    rehearse(net, IMAGES)
    prune_half(net)
    shrink_channels(net, IMAGES)
    assert torch.equal(net.n.running_mean, mean[len(mean) - len(net.n.bias) :])
