"""Small nets, each of which holds one difficulty for masks and removal."""

import functools
from typing import Callable, NamedTuple, Optional, Tuple

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
    same_state,
    state_of,
)
from mmagic.models.editors.biggan.biggan_snmodule import SNConv2d
from mmagic.models.editors.pggan.pggan_modules import equalized_lr
from torch.nn.utils import parametrizations, spectral_norm

from ppcd_mmagic.channels import (
    Widths,
    channelwise,
    largest_difference,
    mask_channels,
    register_rule,
)


class Case(NamedTuple):
    """A net around two convolutions: ``p``, that reads the input, and ``a``,
    of 8 channels, that reads ``p``.

    Attributes:
        run (Callable): The forward behind ``p``.
        layers (Callable): Makes the layers.
        left (tuple): Channels of ``a`` left where the first half of every
            mask is pruned: with a score for each, and with tied ones.
        why (str): Part of the reason why others of ``a`` stay.
        exclude (tuple): Patterns of convolutions without a mask.
        inputs (tuple): Further inputs.
        gated (bool): Something that lives multiplies ``a``: what is dead
            there is closed although the factor moves it.
    """

    run: Callable
    layers: Callable
    left: Tuple[int, int] = (4, 4)
    why: Optional[str] = None
    exclude: tuple = ()
    inputs: tuple = ()
    gated: bool = False


def up(inputs, outputs, **kwargs):
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, **kwargs)


def norm(channels=8):
    return nn.BatchNorm2d(channels)


def make(**kinds):
    """Layers behind ``a`` and ``n``, of which each call makes new ones."""
    return lambda: dict(
        a=conv(6, 8), n=norm(), **{k: make() for k, make in kinds.items()}
    )


def item_assignment(s, x):
    y = s.n(s.a(x))
    z = y.clone()
    z[:, 2:4] = y[:, :2]
    return s.b(z)


def channel_shuffle(s, x):
    y = s.n(s.a(x))
    n, c, h, w = y.shape
    return s.b(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def by_views(y, *sizes):
    n, _, h, w = y.shape
    return y.view(n, *sizes, h, w).flatten(1, 2) + y


def parts_that_all_follow(y):
    n, c, h, w = y.shape
    return y.view(n, c // 2, c // 4, h, w).flatten(1, 2)


def halves(s, x):
    y = s.n(s.a(x))
    return s.b(y[:, : y.size(1) // 2]) + s.c(y[:, y.size(1) // 2 :])


def chunks(s, x):
    first, second = s.n(s.a(x)).chunk(2, 1)
    return s.b(first) + s.c(second)


def squeeze_and_excite(s, x):
    y = s.n(s.a(x))
    return s.b(y * s.e(s.d(y.mean((2, 3), keepdim=True)).relu()).sigmoid())


def conditional(s, x, label):
    gain, bias = (e(label)[:, :, None, None] for e in (s.g, s.e))
    return s.b(s.n(s.a(x)) * (1 + gain) + bias)


def with_hook():
    layers = make(b=lambda: conv(8, 3))()
    layers['n'].register_forward_hook(lambda layer, args, out: out.flip(1))
    return layers


class Strange(nn.Conv2d):
    """One with a forward of its own."""

    def forward(self, x):
        return super().forward(x.flip(1))


class Gain(nn.Module):
    """A layer that the library does not know."""

    def __init__(self, channels):
        super().__init__()
        self.count = channels
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return torch.special.expm1(x) * self.gain.view(1, -1, 1, 1)


register_rule(
    Gain, channelwise, Widths(dict(gain=0), sizes=dict(outputs=('count',)))
)


def shared():
    both = conv(8, 8)
    return dict(a=conv(6, 8), b=both, same=both, c=conv(8, 3))


def spectral(wrap, kind=nn.Conv2d):

    def layers():
        return dict(
            a=wrap(kind(6, 8, 3, padding=1)),
            n=norm(),
            b=wrap(kind(8, 8, 3, padding=1)),
            c=conv(8, 3),
        )

    return layers


def chain(s, x):
    return s.c(s.b(s.n(s.a(x)).relu()))


def plain(s, x):
    return s.b(s.n(s.a(x)))


def last(x):
    return x.permute(0, 2, 3, 1)


B = dict(b=lambda: conv(8, 3))
BC4 = dict(b=lambda: conv(4, 3), c=lambda: conv(4, 3))
LABEL = (torch.tensor([1, 2]),)
CASES = dict(
    plain=Case(plain, make(**B)),
    reuse=Case(
        lambda s, x: s.c(s.b(s.b(s.n(s.a(x))).relu())),
        make(b=lambda: conv(8, 8), c=lambda: conv(8, 3)),
    ),
    concat_of_samples=Case(
        lambda s, x: s.b(torch.cat([s.n(s.a(x)), s.a(x)])),
        make(b=lambda: conv(8, 3)),
    ),
    concat_twice=Case(
        lambda s, x: s.b(torch.cat([s.n(s.a(x)), s.a(x)], 1)),
        make(b=lambda: conv(16, 3)),
    ),
    item_assignment=Case(item_assignment, make(**B), (8, 8), 'fixed ends'),
    # channels i and i + 4 can leave together
    channel_shuffle=Case(channel_shuffle, make(**B), (8, 4)),
    pairs_by_a_view=Case(
        lambda s, x: s.b(by_views(s.n(s.a(x)), -1, 2)), make(**B), (4, 4)
    ),
    parts_by_a_view=Case(
        lambda s, x: s.b(by_views(s.n(s.a(x)), 4, 2)),
        make(**B),
        (8, 8),
        'a view splits it up',
    ),
    parts_that_all_follow=Case(
        lambda s, x: s.b(parts_that_all_follow(s.n(s.a(x)))),
        make(**B),
        (8, 8),
        'a view splits it up',
    ),
    first_map=Case(
        lambda s, x: s.b(
            s.n(s.a(s.l(x.mean((2, 3))).view(x.size(0), -1, 4, 4)))
        ),
        lambda: dict(a=conv(6, 8), n=norm(), b=conv(8, 3), l=nn.Linear(6, 96)),
    ),
    permuted=Case(
        lambda s, x: s.b(
            s.n(s.a(x))[:, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])]
        ),
        make(**B),
        (8, 8),
        'by a tensor',
    ),
    permuted_by_a_list=Case(
        lambda s, x: s.b(s.n(s.a(x))[:, [1, 0, 3, 2, 5, 4, 7, 6]]),
        make(**B),
        (8, 8),
        'picked out',
    ),
    fixed_slice=Case(
        lambda s, x: s.b(s.n(s.a(x))[:, :4]),
        make(b=lambda: conv(4, 3)),
        (8, 8),
        'fixed ends',
    ),
    one_picked=Case(
        lambda s, x: s.b(s.n(s.a(x))) + s.n(s.a(x))[:, 3].unsqueeze(1),
        make(**B),
        (8, 8),
        'picked out',
    ),
    halves=Case(halves, make(**BC4), (8, 4)),
    chunks=Case(chunks, make(**BC4), (8, 4)),
    split=Case(
        lambda s, x: sum(
            layer(part)
            for layer, part in zip((s.b, s.c), s.n(s.a(x)).split(4, 1))
        ),
        make(**BC4),
        (8, 8),
        'fixed size',
    ),
    grouped=Case(
        chain,
        make(b=lambda: conv(8, 12, groups=2), c=lambda: conv(12, 3)),
        (8, 4),
    ),
    grouped_transposed=Case(
        chain,
        make(b=lambda: up(8, 12, groups=2), c=lambda: conv(12, 3)),
        (8, 4),
    ),
    depthwise=Case(
        chain,
        make(b=lambda: conv(8, 8, groups=8), c=lambda: conv(8, 3)),
        exclude=('b',),
    ),
    depthwise_masked=Case(
        chain, make(b=lambda: conv(8, 8, groups=8), c=lambda: conv(8, 3))
    ),
    depthwise_transposed=Case(
        chain,
        make(b=lambda: up(8, 8, groups=8), c=lambda: conv(8, 3)),
        exclude=('b',),
    ),
    depthwise_transposed_masked=Case(
        chain, make(b=lambda: up(8, 8, groups=8), c=lambda: conv(8, 3))
    ),
    depthwise_multiplied=Case(
        chain,
        make(b=lambda: conv(8, 16, groups=8), c=lambda: conv(16, 3)),
        (8, 8),
        'is all that a has',
    ),
    conv1d=Case(
        lambda s, x: s.b(s.a(x.flatten(2)).relu()),
        lambda: dict(a=nn.Conv1d(6, 8, 3), b=nn.Conv1d(8, 3, 3)),
    ),
    conv_transpose1d=Case(
        lambda s, x: s.b(s.a(x.flatten(2)).relu()),
        lambda: dict(a=nn.ConvTranspose1d(6, 8, 3), b=nn.Conv1d(8, 3, 3)),
    ),
    transposed=Case(plain, lambda: dict(a=up(6, 8), n=norm(), b=up(8, 3))),
    prelu=Case(
        lambda s, x: s.b(s.r(s.n(s.a(x)))), make(r=lambda: nn.PReLU(8), **B)
    ),
    prelu_of_one=Case(
        lambda s, x: s.b(s.r(s.n(s.a(x)))), make(r=nn.PReLU, **B)
    ),
    group_norm=Case(
        lambda s, x: s.b(s.g(s.a(x))), make(g=lambda: nn.GroupNorm(4, 8), **B)
    ),
    group_norm_of_two=Case(
        lambda s, x: s.b(s.g(s.a(x))), make(g=lambda: nn.GroupNorm(2, 8), **B)
    ),
    instance_norm=Case(
        lambda s, x: s.b(s.i(s.a(x))),
        make(i=lambda: nn.InstanceNorm2d(8, affine=True), **B),
    ),
    layer_norm=Case(
        lambda s, x: s.b(s.l(last(s.a(x))).permute(0, 3, 1, 2)),
        make(l=lambda: nn.LayerNorm(8), **B),
        (8, 8),
        'LayerNorm',
    ),
    layer_norm_of_all=Case(
        lambda s, x: s.b(s.l(s.a(x))),
        make(l=lambda: nn.LayerNorm([8, 8, 8]), **B),
        (8, 8),
        'LayerNorm',
    ),
    linear_last=Case(
        lambda s, x: s.b(s.l(last(s.n(s.a(x)))).permute(0, 3, 1, 2)),
        make(l=lambda: nn.Linear(8, 6), b=lambda: conv(6, 3)),
    ),
    squeeze_and_excite=Case(
        squeeze_and_excite,
        make(d=lambda: conv(8, 2, 1), e=lambda: conv(2, 8, 1), **B),
        gated=True,
    ),
    spatial_gate=Case(
        lambda s, x: s.b(s.n(s.a(x)) * s.g(s.n(s.a(x))).sigmoid()),
        make(g=lambda: conv(8, 1), **B),
        gated=True,
    ),
    softmax=Case(
        lambda s, x: s.b(s.n(s.a(x)).softmax(1)),
        make(**B),
        (8, 8),
        'softmax() over all',
    ),
    softmax_layer=Case(
        lambda s, x: s.b(s.m(s.n(s.a(x)))),
        make(m=lambda: nn.Softmax(1), **B),
        (8, 8),
        'Softmax',
    ),
    channel_mean=Case(
        lambda s, x: s.b(s.n(s.a(x)) - s.a(x).mean(1, keepdim=True)),
        make(**B),
        (8, 8),
        'mean() over all',
    ),
    flat=Case(
        lambda s, x: s.l(s.n(s.a(x)).flatten(1)),
        make(l=lambda: nn.Linear(512, 5)),
    ),
    viewed=Case(
        lambda s, x: s.l(s.n(s.a(x)).view(x.size(0), -1)),
        make(l=lambda: nn.Linear(512, 5)),
    ),
    viewed_fixed=Case(
        lambda s, x: s.l(s.n(s.a(x)).view(-1, 512)),
        make(l=lambda: nn.Linear(512, 5)),
        (8, 8),
        'fixed size',
    ),
    pixel_shuffle=Case(
        lambda s, x: s.b(F.pixel_shuffle(s.n(s.a(x)), 2)),
        make(b=lambda: conv(2, 3)),
    ),
    pixel_shuffle_layer=Case(
        lambda s, x: s.b(s.u(s.n(s.a(x)))),
        make(u=lambda: nn.PixelShuffle(2), b=lambda: conv(2, 3)),
    ),
    pixel_unshuffle=Case(
        lambda s, x: s.b(F.pixel_unshuffle(s.n(s.a(x)), 2)),
        make(b=lambda: conv(32, 3)),
    ),
    conditional=Case(
        conditional,
        make(g=lambda: nn.Embedding(5, 8), e=lambda: nn.Embedding(5, 8), **B),
        inputs=LABEL,
    ),
    parameters=Case(
        lambda s, x: s.b(s.n(s.a(x)) * s.w + s.v.view(1, -1, 1, 1)),
        make(
            w=lambda: nn.Parameter(torch.ones(1, 8, 1, 1)),
            v=lambda: nn.Parameter(torch.ones(8)),
            **B,
        ),
    ),
    constant=Case(
        lambda s, x: s.b(s.n(s.a(x)) + s.k),
        make(k=lambda: torch.ones(1, 8, 8, 8), **B),
        (8, 8),
        'meets a constant',
    ),
    shared_module=Case(lambda s, x: s.c(s.same(s.b(s.a(x)).relu())), shared),
    unknown_hook=Case(plain, with_hook, (8, 8), 'hook that is not known'),
    unknown_layer=Case(
        plain,
        lambda: dict(a=conv(6, 8), n=norm(), b=Strange(8, 3, 3)),
        (8, 8),
        'in a way that is not known',
    ),
    taught_layer=Case(
        lambda s, x: s.b(s.g(s.n(s.a(x)))), make(g=lambda: Gain(8), **B)
    ),
    padded=Case(
        lambda s, x: s.b(F.pad(s.n(s.a(x)), (1, 1, 1, 1), mode='reflect')),
        make(**B),
    ),
    padded_channels=Case(
        lambda s, x: s.b(F.pad(s.n(s.a(x)), pad=(0, 0, 0, 0, 1, 1))),
        make(b=lambda: conv(10, 3)),
        (8, 8),
        'pad()',
    ),
    in_place=Case(
        lambda s, x: s.b(s.r(s.n(s.a(x)))), make(r=lambda: nn.ReLU(True), **B)
    ),
    in_place_function=Case(
        lambda s, x: s.b(s.n(s.a(x)).relu_().mul_(2).add_(1)), make(**B)
    ),
    several_outputs=Case(
        lambda s, x: dict(image=s.b(s.n(s.a(x))), rest=(s.c(s.a(x)),)),
        make(c=lambda: conv(8, 2), **B),
    ),
    residual_with_input=Case(
        lambda s, x, raw: s.b(s.n(s.a(x)) + raw),
        make(**B),
        (8, 8),
        'meets the input',
        inputs=(torch.randn(2, 8, 8, 8),),
    ),
    residual_with_unmasked=Case(
        lambda s, x: s.b(s.n(s.a(x)) + s.c(x)),
        make(c=lambda: conv(6, 8), **B),
        (8, 8),
        'the unmasked c',
        exclude=('c',),
    ),
    two_heads=Case(
        lambda s, x: s.b(s.a(x)) + s.d(s.n(s.a(x) + s.c(s.a(x)))),
        make(c=lambda: conv(8, 8), d=lambda: conv(8, 3), **B),
    ),
    spectral_norm=Case(chain, spectral(spectral_norm)),
    spectral_norm_new=Case(chain, spectral(parametrizations.spectral_norm)),
    spectral_norm_ajbrock=Case(chain, spectral(lambda layer: layer, SNConv2d)),
    equalized=Case(chain, spectral(equalized_lr)),
)
BOTH = pytest.mark.parametrize(
    'tie', [False, True], ids=['independent', 'tied']
)
EACH = pytest.mark.parametrize('name', CASES)


def built(name):
    """The net of a case, and inputs of it."""
    case = CASES[name]
    torch.manual_seed(1)
    net = Net(
        lambda s, x, *rest: case.run(s, s.p(x).relu(), *rest),
        p=conv(3, 6),
        **case.layers(),
    )
    inputs = (torch.randn(2, 3, 8, 8), *case.inputs)
    as_trained(net).train()
    with torch.no_grad():
        for _ in range(8):  # spectral norm's first guess may be near zero
            net(*inputs)
    return net.eval(), inputs


@functools.cache
def masked(name, tie, prune=prune_some):
    """A net with masks; the tests only look at it."""
    net, inputs = built(name)
    channels = mask_channels(net, inputs, exclude=CASES[name].exclude, tie=tie)
    prune(net)
    return net, inputs, channels


@EACH
@BOTH
def test_masks_change_nothing_but_what_is_masked(name, tie):
    net, inputs = built(name)
    net.train()
    net.a.eval()
    expected, before = call(net, inputs), state_of(net)
    mask_channels(net, inputs, exclude=CASES[name].exclude, tie=tie)
    assert same_state(before, state_of(net))
    assert largest_difference(expected, call(net, inputs)) < 1e-6


@EACH
@BOTH
def test_nothing_that_can_leave_reaches_an_output(name, tie):
    net, inputs, channels = masked(name, tie)
    assert leak(net, channels, inputs) < 1e-6


@pytest.mark.parametrize(
    'name', [name for name, case in CASES.items() if not case.gated]
)
@BOTH
def test_gates_close_nothing_that_carries_the_input(name, tie):
    net, inputs, channels = masked(name, tie)
    assert closed_but_moving(net, channels, inputs) == {}


@EACH
@BOTH
def test_what_is_cut_out_leaves_the_outputs_as_they_are(name, tie):
    net, inputs, channels = masked(name, tie)
    smaller = cut(net, channels, inputs)
    for given in (inputs[0][:1],):
        rest = tuple(value[:1] for value in inputs[1:])
        assert (
            largest_difference(
                call(net, (given, *rest)), call(smaller, (given, *rest))
            )
            < 1e-4
        )


@EACH
@BOTH
def test_as_many_channels_are_left_as_counted_by_hand(name, tie):
    net, inputs, channels = masked(name, tie, prune_half)
    smaller = cut(net, channels, inputs)
    assert smaller.p.out_channels == 3
    assert smaller.a.out_channels == CASES[name].left[tie]


@EACH
def test_channels_that_stay_say_why(name):
    _, _, channels = masked(name, False)
    why = CASES[name].why
    reasons = channels.why_not('a')
    assert (why is None) == (not reasons)
    assert all(why in reason for reason in reasons)
