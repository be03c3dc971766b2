"""Layers that hold more, or less, than those of their kind: cut, resumed and
rebuilt they compute the same, or they stay as they are."""

import copy

import pytest
import torch
import torch.nn as nn
from channel_checks import Net, as_trained, call, conv, cut, net, prune_some
from mmagic.models.editors.biggan.biggan_snmodule import SNConv2d
from torch.nn.utils import parametrizations, spectral_norm

from ppcd_mmagic.channels import (
    discard_channels,
    fit_to_state,
    fold_computed_weights,
    largest_difference,
    layer_sizes,
    mask_channels,
    narrow_to_state,
    resize_layers,
    shrink_channels,
)

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def masked(build, **options):
    """One that has been trained, half of each mask pruned."""
    module = as_trained(build()).eval()
    channels = mask_channels(module, IMAGES, **options)
    prune_some(module)
    return module, channels


def differs(expected, module) -> float:
    return largest_difference(expected, call(module, IMAGES))


def rebuilt(build, smaller) -> nn.Module:
    """What a config with the sizes of an export builds, with its weights."""
    plain = build().eval()
    whole = layer_sizes(plain)
    resize_layers(
        plain,
        {
            name: size
            for name, size in layer_sizes(smaller).items()
            if size != whole[name]
        },
    )
    plain.load_state_dict(smaller.state_dict())
    return plain


def resumed(build, shrunk, **options) -> nn.Module:
    """What goes on from a checkpoint of a module that was shrunk."""
    fresh = build().eval()
    mask_channels(fresh, IMAGES, **options)
    fit_to_state(fresh, IMAGES, shrunk.state_dict())
    fresh.load_state_dict(shrunk.state_dict())
    return fresh


def require_same(build, **options):
    """Exported, rebuilt, shrunk and resumed it computes the same."""
    module, channels = masked(build, **options)
    expected = call(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert differs(expected, smaller) < 1e-5
    assert differs(expected, rebuilt(build, smaller)) < 1e-5
    narrow = build().eval()
    assert narrow_to_state(narrow, smaller.state_dict())
    narrow.load_state_dict(smaller.state_dict())
    assert differs(expected, narrow) < 1e-5
    assert shrink_channels(module, IMAGES) > 0
    assert differs(expected, module) < 1e-5
    assert differs(expected, resumed(build, module, **options)) < 1e-5
    return smaller, channels


def scaled_by_a_buffer(persistent=True):
    def build():
        module = net(lambda s, y: s.b(y * s.gain))
        module.register_buffer('gain', torch.rand(8, 1, 1), persistent)
        return module

    torch.manual_seed(0)
    gain = torch.rand(8, 1, 1)

    def with_its_values():
        module = build()
        module.gain.copy_(gain)
        return module

    return with_its_values


def test_a_buffer_with_an_entry_for_each_channel_is_cut_with_them():
    smaller, _ = require_same(scaled_by_a_buffer())
    assert smaller.gain.shape == (4, 1, 1)
    # and nothing of the rest is saved with it
    assert smaller.gain.untyped_storage().nbytes() == 4 * 4


def test_a_buffer_that_no_checkpoint_has_keeps_the_channels():
    smaller, channels = require_same(scaled_by_a_buffer(persistent=False))
    assert 'constant' in next(iter(channels.why_not('a')))
    assert (smaller.p.out_channels, smaller.a.out_channels) == (3, 8)


def test_what_a_layer_of_a_known_kind_holds_besides():
    def build():
        module = net(lambda s, y: s.b(y * s.a.gain))
        module.a.register_buffer('gain', torch.arange(1.0, 9).view(8, 1, 1))
        return module

    module, _ = masked(build)
    assert layer_sizes(module)['a.gain'] == (8, 1, 1)
    shrink_channels(module, IMAGES)
    assert layer_sizes(module)['a.gain'] == (4, 1, 1)
    assert differs(call(module, IMAGES), resumed(build, module)) < 1e-5


def test_a_layer_that_is_called_mask():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = conv(8, 8)

        def forward(self, x):
            return self.mask(x)

    smaller, _ = require_same(lambda: net(lambda s, y: s.b(s.h(y)), h=Head()))
    assert (smaller.h.mask.in_channels, smaller.h.mask.out_channels) == (4, 4)


class Conv2d(nn.Conv2d):
    """Called as torch's, with a number of its own."""

    scale = 0.5


def with_attribute(layer):
    layer.scale = 0.5
    return layer


def with_buffer(layer):
    layer.register_buffer('scale', torch.tensor(0.5))
    return layer


GIVEN = dict(
    attribute=lambda: with_attribute(conv(6, 8)),
    buffer=lambda: with_buffer(conv(6, 8)),
    name_of_torch=lambda: Conv2d(6, 8, 3, padding=1),
)


@pytest.mark.parametrize('name', GIVEN)
def test_what_a_layer_was_given_is_still_there_without_its_channels(name):
    smaller, _ = require_same(
        lambda: as_trained(
            Net(
                lambda s, x: s.b(s.a(s.p(x)) * s.a.scale),
                p=conv(3, 6),
                a=GIVEN[name](),
                b=conv(8, 3),
            )
        )
    )
    assert smaller.a.out_channels == 4


def test_what_a_layer_was_given_is_still_there_without_spectral_norm():
    layer = with_attribute(SNConv2d(8, 8, 3, padding=1))
    module = net(lambda s, y: s.b(s.c(y) * s.c.scale), c=layer)
    mask_channels(module, IMAGES)
    prune_some(module)
    assert (
        differs(call(module, IMAGES), discard_channels(module, IMAGES)) < 1e-5
    )


def bare_norm():
    return net(
        lambda s, y: s.b(s.m(y)), m=nn.BatchNorm2d(8, track_running_stats=False)
    )


def test_a_norm_without_running_statistics():
    require_same(bare_norm)


WRAPS = dict(
    new=lambda: parametrizations.spectral_norm(conv(8, 8)),
    old=lambda: spectral_norm(conv(8, 8)),
    mmagic=lambda: SNConv2d(8, 8, 3, padding=1),
)


@pytest.mark.parametrize('name', WRAPS)
def test_weights_are_folded_as_evaluation_computes_them(name):
    """In training, spectral norm moves on whenever it is computed."""
    module = net(lambda s, y: s.b(s.c(y)), c=WRAPS[name]()).train()
    module(IMAGES)
    mask_channels(module, IMAGES)
    prune_some(module)
    assert (
        differs(call(module, IMAGES), discard_channels(module, IMAGES)) < 1e-5
    )
    plain = net(lambda s, y: s.b(s.c(y)), c=WRAPS[name]()).train()
    plain.n.eval()
    plain(IMAGES)
    expected = call(plain, IMAGES)
    fold_computed_weights(plain)
    assert differs(expected, plain) == 0
    assert plain.training and plain.c.training and not plain.n.training


def test_a_layer_with_several_names_stays_one_where_it_is_folded():
    layer = SNConv2d(8, 8, 3, padding=1)
    module = net(
        lambda s, y: s.b(s.again(s.h['c'](s.c(y)))),
        c=layer,
        again=layer,
        h=nn.ModuleDict(dict(c=layer)),
    )
    expected = call(module, IMAGES)
    fold_computed_weights(module)
    assert type(module.c) is nn.Conv2d
    assert module.c is module.again and module.c is module.h['c']
    assert differs(expected, module) == 0


def test_a_group_norm_whose_width_no_checkpoint_tells_keeps_its_channels():
    smaller, channels = require_same(
        lambda: net(
            lambda s, y: s.b(s.g(y)), g=nn.GroupNorm(4, 8, affine=False)
        )
    )
    assert 'GroupNorm g' in next(iter(channels.why_not('a')))
    assert (smaller.p.out_channels, smaller.g.num_groups) == (3, 4)


@pytest.mark.parametrize('kind', [nn.Conv2d, nn.ConvTranspose2d])
def test_groups_that_are_down_to_one_channel_stay(kind):
    def build():
        grouped = kind(8, 8, 3, padding=1, groups=4)
        return net(lambda s, y: s.b(s.c(y)), c=grouped)

    module = build()
    channels = mask_channels(module, IMAGES)
    for mask in (channels.masks['a'], channels.masks['c']):
        mask.pruned[::2] = True
    shrink_channels(module, IMAGES)
    assert (module.c.in_channels, module.c.groups) == (4, 4)
    for mask in (module.a.mask, module.c.mask):
        mask.pruned[0] = True
    expected = call(module, IMAGES)
    shrink_channels(module, IMAGES)
    assert (module.c.in_channels, module.c.groups) == (4, 4)
    assert differs(expected, resumed(build, module)) < 1e-5
    again = resumed(build, module)
    shrink_channels(again, IMAGES)
    assert again.c.groups == 4
    smaller = discard_channels(again, IMAGES)
    assert differs(expected, rebuilt(build, smaller)) < 1e-5


def test_a_recording_leaves_parameters_as_they_are():
    """An embedding with a largest norm divides the rows that it looks up."""
    module = net(
        lambda s, y: s.b(y) + s.e(s.rows).mean(),
        e=nn.Embedding(5, 4, max_norm=0.1),
        rows=torch.arange(3),
    )
    before = {n: p.clone() for n, p in module.named_parameters()}
    mask_channels(module, IMAGES)
    assert all(
        torch.equal(p, before[n])
        for n, p in module.named_parameters()
        if n in before
    )


def test_a_sparse_buffer_is_no_parameter_of_any_layer():
    module = net(
        lambda s, y: s.b(y) * torch.sparse.mm(s.k, torch.ones(8, 1)).mean(),
        k=torch.eye(8).to_sparse(),
    )
    channels = mask_channels(module, IMAGES)
    module.a.mask.prune(4)
    assert channels.leaving_of('a').sum() == 4
    smaller = discard_channels(module, IMAGES)
    assert smaller.a.out_channels == 4
    (expected,), (found,) = call(module, IMAGES), call(smaller, IMAGES)
    assert torch.allclose(expected, found, atol=1e-6)


@pytest.mark.parametrize('tie', (False, True))
@pytest.mark.parametrize(
    'layer',
    (
        nn.Conv3d(8, 8, 3, padding=1),
        nn.Conv3d(8, 8, 3, padding=1, groups=2),
        nn.Conv3d(8, 8, 3, padding=1, groups=8),
        spectral_norm(nn.Conv3d(8, 8, 3)),
        nn.ConvTranspose3d(8, 8, 3),
        nn.ConvTranspose3d(8, 8, 3, groups=2),
        nn.MaxPool3d(2),
        nn.AvgPool3d(2),
        nn.AdaptiveAvgPool3d(2),
    ),
    ids=lambda layer: repr(layer).replace('(', ' ').split(',')[0],
)
def test_layers_of_videos_are_cut_like_those_of_images(layer, tie):
    videos = torch.randn(2, 3, 4, 4, 4)
    module = as_trained(
        nn.Sequential(
            nn.Conv3d(3, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            copy.deepcopy(layer),
            nn.Conv3d(8, 3, 1),
        )
    ).eval()
    channels = mask_channels(module, videos, tie=tie)
    for mask in channels.masks.values():
        mask.pruned[::4] = True
    assert channels.leaving_of('0').sum() == 2
    cut(module, channels, videos)
    expected = call(module, videos)
    shrink_channels(module, videos)
    if not hasattr(module[3], 'weight_u'):
        assert largest_difference(expected, call(module, videos)) < 1e-5
