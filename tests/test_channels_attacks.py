"""Odd networks and odd use of the channel library: what comes out is exact,
or refused in one line."""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from channel_checks import call, conv, cut, net, prune_some
from torch.nn.utils import spectral_norm

from ppcd_mmagic.channels import (
    discard_channels,
    largest_difference,
    layer_sizes,
    mask_channels,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def require_exact(module, inputs, **options):
    """Cut and shrunk it computes the same."""
    channels = mask_channels(module, inputs, **options)
    prune_some(module)
    leaving = channels.leaving_of('a') if 'a' in channels.writers else None
    expected = call(module, inputs)
    smaller = discard_channels(module, inputs)
    assert largest_difference(expected, call(smaller, inputs)) < 1e-5
    assert shrink_channels(module, inputs) > 0
    assert largest_difference(expected, call(module, inputs)) < 1e-5
    return leaving


def read_by_python(s, y):
    return s.b(torch.tensor(y.tolist()))


def read_by_numpy(s, y):
    return s.b(torch.from_numpy(y.numpy().copy()))


class Weighted(nn.Conv2d):
    """Has torch's forward, but another weight."""

    def _conv_forward(self, x, weight, bias):
        weight = weight / weight.flatten(1).std(1).view(-1, 1, 1, 1)
        return super()._conv_forward(x, weight, bias)


def replaced_forward():
    layer = conv(8, 3)
    layer.forward = lambda x: F.conv2d(x.flip(1), layer.weight, padding=1)
    return layer


# all of ``a`` stays; ``p`` can leave
STAY = dict(
    values_read_by_python=lambda: net(read_by_python),
    an_lstm=lambda: net(
        lambda s, y: s.r(y.flatten(2).transpose(1, 2))[1][0],
        r=nn.LSTM(8, 4, batch_first=True),
    ),
    pooled_over_channels=lambda: net(
        lambda s, y: s.b(F.max_pool2d(y.flatten(2), 3, 1, 1).view(2, 8, 8, 8))
    ),
    pooled_over_channels_by_a_layer=lambda: net(
        lambda s, y: s.b(s.m(y.flatten(2)).view(2, 8, 8, 8)),
        m=nn.MaxPool2d(3, 1, 1),
    ),
    normed_over_positions=lambda: net(
        lambda s, y: s.b(s.i(y.flatten(2)).view(2, 8, 8, 8)),
        i=nn.InstanceNorm2d(2),
    ),
    random_numbers_for_each=lambda: net(
        lambda s, y: s.b(y + torch.randn_like(y))
    ),
    always_dropping_out=lambda: net(lambda s, y: s.b(F.dropout(y, 0.5, True))),
    variance_of_all=lambda: net(lambda s, y: s.b(y) * y.var(False)),
    weights_of_its_own=lambda: net(lambda s, y: s.w(y), w=Weighted(8, 3, 3)),
    forward_of_its_own=lambda: net(lambda s, y: s.w(y), w=replaced_forward()),
)


@pytest.mark.parametrize('name', STAY)
def test_what_is_not_known_stays_and_the_rest_is_exact(name):
    assert not require_exact(STAY[name](), IMAGES).any()


def in_a_dict(s, y):
    return s.layers['last'](y)


def written_elsewhere(s, y):
    z = torch.zeros_like(y)
    z.copy_(y)
    return s.b(z) + s.b(y)


def of_hugging_face(s, y):
    image = s.b(y)
    return SimpleNamespace(to_tuple=lambda: (image,))


EXACT = dict(
    called_by_keyword=lambda: net(lambda s, y: s.b(F.relu(input=y))),
    module_dict=lambda: net(
        in_a_dict, layers=nn.ModuleDict(dict(last=conv(8, 3)))
    ),
    copied_into_another=lambda: net(written_elsewhere),
    constant_in_a_closure=lambda: net(lambda s, y: s.b(y * 2.5)),
    wrapped=lambda: nn.DataParallel(net()),
    no_bias=lambda: net(lambda s, y: s.c(y), c=conv(8, 3, bias=False)),
    dilated_and_strided=lambda: net(
        lambda s, y: s.c(y), c=nn.Conv2d(8, 3, 3, 2, 2, 2)
    ),
    two_writers_into_groups=lambda: net(
        lambda s, y: s.b(s.g(torch.cat([y, s.c(y)], 1))),
        6,
        c=conv(8, 4),
        g=conv(12, 6, groups=3),
    ),
    half_precision=lambda: net().half(),
    double_precision=lambda: net().double(),
    channels_last=lambda: net().to(memory_format=torch.channels_last),
    output_of_hugging_face=lambda: net(of_hugging_face),
    none_in_the_output=lambda: net(lambda s, y: (s.b(y), None, 1)),
)


@pytest.mark.parametrize('name', EXACT)
@pytest.mark.parametrize('tie', (False, True))
def test_an_odd_network_is_cut_exactly(name, tie):
    module = EXACT[name]()
    dtype = next(module.parameters()).dtype
    if dtype == torch.half:
        channels = mask_channels(module, IMAGES.half(), tie=tie)
        prune_some(module)
        smaller = discard_channels(module, IMAGES.half())
        assert channels.leaving_of('p').sum() == 3
        assert smaller.p.weight.dtype == dtype
    else:
        require_exact(module, IMAGES.to(dtype), tie=tie)


@dataclass
class Output:
    image: torch.Tensor


def under_inference_mode(s, y):
    with torch.inference_mode():
        return s.b(y.relu())


def written_through_data(s, y):
    y.data.add_(s.c(y))
    return s.b(y)


def written_through_a_view(s, y):
    y[:, :4].mul_(2)
    return s.b(y)


def closure():
    constant = torch.randn(1, 8, 1, 1)
    return net(lambda s, y: s.b(y + constant))


REFUSED = dict(
    too_many_colours=(net, torch.randn(2, 4, 8, 8), 'does not run'),
    another_type=(net, IMAGES.double(), 'does not run'),
    another_device=(net, IMAGES.to('meta'), 'does not run'),
    too_many_inputs=(net, (IMAGES, IMAGES), 'does not run'),
    unknown_keyword=(net, dict(images=IMAGES), 'does not run'),
    no_inputs=(net, (), 'does not run'),
    text=(net, 'image', 'does not run'),
    without_values=(lambda: net().to('meta'), IMAGES.to('meta'), 'meta device'),
    hidden_outputs=(
        lambda: net(lambda s, y: Output(s.b(y))),
        IMAGES,
        'returns a Output',
    ),
    no_outputs=(lambda: net(lambda s, y: None), IMAGES, 'returns a NoneType'),
    a_number=(
        lambda: net(lambda s, y: float(s.b(y).sum())),
        IMAGES,
        'returns a float',
    ),
    a_layer_alone=(lambda: conv(3, 8), IMAGES, 'Conv2d'),
    no_layers=(nn.ReLU, IMAGES, 'no convolution'),
    inference_mode=(
        lambda: net(under_inference_mode),
        IMAGES,
        'inference_mode',
    ),
    written_through_data=(
        lambda: net(written_through_data, c=conv(8, 8)),
        IMAGES,
        'through another view',
    ),
    written_through_a_view=(
        lambda: net(written_through_a_view),
        IMAGES,
        'through another view',
    ),
    tensor_of_a_closure=(closure, IMAGES, 'no recorded operation made'),
    values_read_by_numpy=(
        lambda: net(read_by_numpy),
        IMAGES,
        'no recorded operation made',
    ),
    scripted=(
        lambda: net(lambda s, y: s.b(s.c(y)), c=torch.jit.script(conv(8, 8))),
        IMAGES,
        'no recorded operation made|does not run',
    ),
)


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_known_is_refused_in_one_line(name):
    build, inputs, why = REFUSED[name]
    module = build()
    before = list(module.state_dict())
    with pytest.raises(PPCDError, match=why) as refusal:
        mask_channels(module, inputs)
    assert '\n' not in str(refusal.value)
    assert list(module.state_dict()) == before
    assert all(not child._forward_hooks for child in module.modules())


def test_a_layer_keeps_a_channel_though_all_of_its_mask_is_pruned():
    module = net()
    channels = mask_channels(module, IMAGES)
    channels.masks['a'].pruned.fill_(True)
    expected = call(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert layer_sizes(smaller)['a'] == (1, 6)
    assert largest_difference(expected, call(smaller, IMAGES)) < 1e-5


def test_of_tied_masks_every_layer_keeps_a_channel():
    module = net(
        lambda s, y: s.b(y + torch.cat([s.c(y), s.d(y)], 1)),
        c=conv(8, 4),
        d=conv(8, 4),
    )
    channels = mask_channels(module, IMAGES, tie=True)
    channels.masks['a'].pruned[:4] = True  # all that c writes
    expected = call(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert layer_sizes(smaller)['c'] == (1, 5)
    assert largest_difference(expected, call(smaller, IMAGES)) < 1e-5


def test_buffers_that_a_forward_changes_are_as_before():
    def count(s, y):
        s.steps += 1
        return s.b(y)

    module = net(count, steps=torch.zeros(()))
    mask_channels(module, IMAGES)
    assert module.steps == 0


KEPT_SIZES = dict(
    shape=lambda s, y: setattr(s, 'kept', y.shape),
    height=lambda s, y: setattr(s, 'kept', y.shape[2]),
    table=lambda s, y: s.__dict__.setdefault('kept', {}).update(
        {tuple(y.shape[2:]): y.size(1)}
    ),
)


@pytest.mark.parametrize('name', KEPT_SIZES)
def test_a_module_that_keeps_sizes_is_copied_and_cut(name):
    module = net(lambda s, y: (KEPT_SIZES[name](s, y), s.b(y))[1])
    channels = mask_channels(module, IMAGES)
    prune_some(module)
    assert channels.leaving_of('a').any()
    cut(copy.deepcopy(module), channels, IMAGES)
    expected = call(module, IMAGES)
    shrink_channels(module, IMAGES)
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5


USES_OF_KEPT = dict(
    of_a_view=lambda y, kept: y.view(y.size(0), kept, -1).unsqueeze(3),
    times_one_of_now=lambda y, kept: y * (kept * y.size(1)),
    plus_one_of_now=lambda y, kept: y[:, : kept + y.size(1)],
)


@pytest.mark.parametrize('name', USES_OF_KEPT)
def test_a_number_that_was_kept_of_another_run_is_a_constant(name):
    def run(s, y):
        s.kept = getattr(s, 'kept', y.size(1))
        return s.b(USES_OF_KEPT[name](y, s.kept))

    module = net(run)
    module(IMAGES)
    channels = mask_channels(module, IMAGES)
    prune_some(module)
    assert not channels.leaving_of('a').any()
    cut(module, channels, IMAGES)


def test_inputs_that_a_forward_writes_into_are_as_before():
    module = net()
    module.run = lambda s, x: s.b(s.n(s.a(s.p(x.mul_(2)).relu())))
    images = IMAGES.clone()
    mask_channels(module, images)
    assert torch.equal(images, IMAGES)


def test_inputs_may_be_computed():
    images = IMAGES.clone().requires_grad_() * 2
    assert set(mask_channels(net(), images).masks) == {'p', 'a'}


def test_masks_can_be_hung_one_after_the_other():
    module = net()
    mask_channels(module, IMAGES, convs='p')
    channels = mask_channels(module, IMAGES, convs='a')
    assert set(channels.masks) == {'p', 'a'}
    prune_some(module)
    assert channels.leaving_of('p').sum() == 3
    assert channels.leaving_of('a').sum() == 4


def test_masks_that_are_hung_again_keep_what_is_pruned():
    module = net()
    mask_channels(module, IMAGES)
    prune_some(module)
    pruned = dict(module.a.mask.named_buffers())['pruned'].clone()
    channels = mask_channels(module, IMAGES)
    assert torch.equal(channels.masks['a'].pruned, pruned)
    assert len(module.a._forward_hooks) == 1


def test_names_may_hold_what_means_something_in_patterns():
    module = net(lambda s, y: s._modules['b[0]'](y))
    module.add_module('b[0]', conv(8, 3))
    module.add_module('a[1]*', module.a)
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    assert set(channels.masks) == {'p', 'a'}


@pytest.mark.parametrize('tie', (False, True))
def test_spectral_norm_that_is_put_on_afterwards_leaks_nothing(tie):
    module = net()
    channels = mask_channels(module, IMAGES, tie=tie)
    spectral_norm(module.b)
    prune_some(module)
    module.a.register_forward_hook(
        lambda layer, args, out: out + channels.leaving_of('a').view(-1, 1, 1)
    )
    disturbed = call(module, IMAGES)
    module.a._forward_hooks.popitem()
    assert largest_difference(disturbed, call(module, IMAGES)) == 0


def test_a_network_can_be_copied_and_cut_in_the_middle_of_its_training():
    module = net(lambda s, y: s.c(y), c=spectral_norm(conv(8, 3)))
    mask_channels(module, IMAGES)
    module.train()(IMAGES).square().mean().backward()
    prune_some(module)
    with torch.no_grad():
        for _ in range(5):
            module(IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert (
        largest_difference(call(module, IMAGES), call(smaller, IMAGES)) < 1e-5
    )
    assert call(copy.deepcopy(module), IMAGES)[0].shape == (2, 3, 8, 8)


def test_inference_mode_is_refused_and_what_was_made_in_it_is_taken():
    with torch.inference_mode():
        images = torch.randn(2, 3, 8, 8)
        with pytest.raises(PPCDError, match='no_grad'):
            mask_channels(net(), images)
    assert set(mask_channels(net(), images).masks) == {'p', 'a'}
