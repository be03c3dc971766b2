"""Every layer and function that is known lets channels go, exactly; and what
rearranges them keeps them."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from channel_checks import call, conv, cut, net

from ppcd_mmagic.channels import (
    discard_channels,
    largest_difference,
    layer_sizes,
    mask_channels,
    shrink_channels,
)

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def after(function, last=8, **layers):
    return lambda: net(lambda s, y: s.b(function(y)), last, **layers)


UNARY = dict(
    {
        name: getattr(F, name)
        for name in (
            'relu',
            'relu6',
            'leaky_relu',
            'elu',
            'selu',
            'celu',
            'gelu',
            'silu',
            'mish',
            'sigmoid',
            'tanh',
            'hardtanh',
            'hardswish',
            'hardsigmoid',
            'softplus',
            'softsign',
            'logsigmoid',
        )
    },
    **{
        name: lambda y, name=name: getattr(y, name)()
        for name in (
            'relu_',
            'sigmoid_',
            'tanh_',
            'exp',
            'abs',
            'neg',
            'sin',
            'cos',
            'float',
            'contiguous',
            'clone',
            'detach',
            'square',
            'reciprocal',
            'sign',
            'erf',
        )
    },
    log=lambda y: y.abs().log(),
    sqrt=lambda y: y.abs().sqrt(),
    rsqrt=lambda y: y.abs().add(1).rsqrt(),
    pow=lambda y: y.pow(2),
    power=lambda y: y**2,
    clamp=lambda y: y.clamp(-1, 1),
    clamp_=lambda y: y.clamp_(-1, 1),
    clip=lambda y: torch.clip(y, 0, 1),
    leaky_relu_=lambda y: F.leaky_relu_(y, 0.1),
    to=lambda y: y.to(torch.float32),
    type=lambda y: y.type(torch.float32),
    double=lambda y: y.double().float(),
    half=lambda y: y.half().float(),
    bfloat16=lambda y: y.bfloat16().float(),
    dropout=lambda y: F.dropout(y, 0.5, False),
    dropout_by_keyword=lambda y: F.dropout2d(y, 0.5, training=False),
    negative=lambda y: -y,
)

COMBINED = dict(
    add=lambda y: torch.add(y, y.abs()),
    add_=lambda y: y.clone().add_(y),
    sub=lambda y: torch.sub(y, 2),
    sub_=lambda y: y.sub_(2),
    rsub=lambda y: torch.rsub(y, 1),
    from_one=lambda y: 1 - y,
    radd=lambda y: 1 + y,
    minus=lambda y: y - y.abs() * 0.5,
    mul=lambda y: torch.mul(y, y.sigmoid()),
    mul_=lambda y: y.mul_(2),
    twice=lambda y: 2 * y,
    times=lambda y: y * y.tanh(),
    div=lambda y: torch.div(y, 3),
    div_=lambda y: y.div_(3),
    true_divide=lambda y: torch.true_divide(y, y.abs() + 1),
    over=lambda y: y / (y.abs() + 1),
    one_over=lambda y: 1 / (y.abs() + 1),
    maximum=lambda y: torch.maximum(y, -y),
    minimum=lambda y: torch.minimum(y, y * 0.5),
    lerp=lambda y: torch.lerp(y, y.abs(), 0.3),
    type_as=lambda y: y.type_as(y.abs()),
    zeros_like=lambda y: y + torch.zeros_like(y),
    ones_like=lambda y: y * torch.ones_like(y),
)

SPATIAL = dict(
    interpolate=lambda y: F.interpolate(y, scale_factor=2),
    bilinear=lambda y: F.interpolate(
        y, size=(5, 5), mode='bilinear', align_corners=False
    ),
    max_pool2d=lambda y: F.max_pool2d(y, 2),
    avg_pool2d=lambda y: F.avg_pool2d(y, 2),
    adaptive_avg_pool2d=lambda y: F.adaptive_avg_pool2d(y, 4),
    adaptive_max_pool2d=lambda y: F.adaptive_max_pool2d(y, 4),
    max_pool1d=lambda y: F.max_pool1d(y.flatten(2), 2).unsqueeze(-1),
    avg_pool1d=lambda y: F.avg_pool1d(y.flatten(2), 2).unsqueeze(2),
    pad=lambda y: F.pad(y, (1, 2, 0, 1)),
    pad_by_keyword=lambda y: F.pad(y, pad=(1, 1, 1, 0), mode='reflect'),
    mean=lambda y: y - y.mean((2, 3), keepdim=True),
    mean_of_one=lambda y: y - y.mean(-1, keepdim=True),
    mean_by_keyword=lambda y: y - torch.mean(y, dim=(2, 3), keepdim=True),
    mean_over_the_batch=lambda y: y - y.mean(0, keepdim=True),
    mean_without_its_dimensions=lambda y: y * y.mean((2, 3))[:, :, None, None],
    mean_without_one=lambda y: y * y.mean(3)[..., None],
    mean_without_the_batch=lambda y: y * y.mean(0),
    sum=lambda y: y * y.sum((-1, -2), keepdim=True),
    std=lambda y: y / (1 + y.std((2, 3), keepdim=True)),
    var=lambda y: y * y.var((2, 3), keepdim=True),
    amax=lambda y: y - y.amax((2, 3), keepdim=True),
    amin=lambda y: y - y.amin(dim=3, keepdim=True),
    norm=lambda y: y / (1 + y.norm(dim=2, keepdim=True)),
    vector_norm=lambda y: (
        y * torch.linalg.vector_norm(y, dim=(2, 3), keepdim=True)
    ),
    linalg_norm=lambda y: y * torch.linalg.norm(y, dim=(2, 3), keepdim=True),
    softmax=lambda y: y.softmax(-1),
    log_softmax=lambda y: F.log_softmax(y, dim=3),
)

MOVED = dict(
    flatten=lambda y: y.flatten(2).unsqueeze(3),
    squeeze=lambda y: y.unsqueeze(1).squeeze(1),
    permute=lambda y: y.permute(0, 3, 1, 2).abs().permute(0, 2, 3, 1),
    transpose=lambda y: y.transpose(1, 3).neg().transpose(1, 3),
    swapaxes=lambda y: y.swapaxes(1, 2).swapaxes(1, 2),
    movedim=lambda y: y.movedim(1, 0).exp().movedim(0, 1),
    flip=lambda y: y.flip((2, 3)),
    repeat=lambda y: y.repeat(1, 1, 2, 1),
    view=lambda y: y.view(2, -1, 64).view(2, -1, 8, 8),
    reshape=lambda y: y.reshape(2, -1, 4, 16),
    shape_in_a_tuple=lambda y: y.reshape((2, -1, 4, 16)),
    number_of_its_own=lambda y: y.reshape(2, y.size(1), 4, 16),
    number_by_keyword=lambda y: y.reshape(2, y.size(dim=1), 4, 16),
    number_from_the_end=lambda y: y.view(2, y.shape[-3], 64, 1),
    all_numbers_of_its_own=lambda y: y.view(*y.size()),
    expand=lambda y: y.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8) * y,
    slice_of_all=lambda y: y[:, :, 1:-1, ::2],
    slice_of_the_batch=lambda y: y[:1],
    slice_behind_an_ellipsis=lambda y: y[..., 2:],
    new_dimension=lambda y: y[:, None][:, 0],
    whole_slice=lambda y: y[:, 0 : y.size(1)],
)

TWICE = dict(
    cat=lambda y: torch.cat([y, y.abs()], 1),
    cat_by_keyword=lambda y: torch.cat((y, y.abs()), dim=1),
    cat_from_the_end=lambda y: torch.cat((y, y.abs()), dim=-3),
    concat=lambda y: torch.concat([y, y.abs()], 1),
    concatenate=lambda y: torch.concatenate([y, y.abs()], 1),
    stack=lambda y: torch.stack([y, y.abs()], 1).flatten(1, 2),
    repeated=lambda y: y.repeat(1, 2, 1, 1),
)

OTHERS = dict(
    where=lambda: net(
        lambda s, y: s.b(torch.where(s.m, y, y * 2)),
        m=torch.rand(1, 1, 8, 8) > 0.5,
    ),
    pixel_unshuffle=after(lambda y: F.pixel_unshuffle(y, 2), 32),
    chunk=after(lambda y: torch.cat(y.chunk(2, 2), 3)),
    split_maps=after(lambda y: torch.cat(torch.split(y, 4, dim=3), 2)),
    several_outputs=after(lambda y: y.chunk(2, 3)[1]),
)

SAME = [
    nn.Identity(),
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(),
    nn.ELU(),
    nn.CELU(),
    nn.SELU(),
    nn.GELU(),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Hardtanh(),
    nn.Softplus(),
    nn.Mish(),
    nn.Softsign(),
    nn.Tanhshrink(),
    nn.LogSigmoid(),
    nn.Dropout(),
    nn.Dropout2d(),
    nn.AlphaDropout(),
    nn.Upsample(scale_factor=2),
    nn.MaxPool2d(2),
    nn.AvgPool2d(2),
    nn.AdaptiveAvgPool2d(4),
    nn.AdaptiveMaxPool2d(4),
    nn.ReflectionPad2d(1),
    nn.ReplicationPad2d(1),
    nn.ZeroPad2d(1),
    nn.ConstantPad2d(1, 0.5),
    nn.UpsamplingNearest2d(scale_factor=2),
    nn.InstanceNorm2d(8),
    nn.BatchNorm2d(8, affine=False),
]
LINES = [
    nn.MaxPool1d(2),
    nn.AvgPool1d(2),
    nn.AdaptiveAvgPool1d(4),
    nn.AdaptiveMaxPool1d(4),
    nn.BatchNorm1d(8),
    nn.InstanceNorm1d(8),
    nn.ReflectionPad1d(1),
    nn.Dropout1d(),
    nn.Conv1d(8, 8, 3),
    nn.ConvTranspose1d(8, 8, 3),
]
NETS = {
    **{
        name: after(function)
        for part in (UNARY, COMBINED, SPATIAL, MOVED)
        for name, function in part.items()
    },
    **{name: after(function, 16) for name, function in TWICE.items()},
    'glu': after(lambda y: F.glu(torch.cat([y, y.neg()], 1), 1)),
    'GLU': lambda: net(
        lambda s, y: s.b(s.layer(torch.cat([y, y.neg()], 1))), layer=nn.GLU(1)
    ),
    **OTHERS,
    **{
        type(layer).__name__: lambda layer=layer: net(
            lambda s, y: s.b(s.layer(y)), layer=layer
        )
        for layer in SAME
    },
    **{
        type(layer).__name__: lambda layer=layer: net(
            lambda s, y: s.b(s.layer(y.flatten(2)).unsqueeze(3)), layer=layer
        )
        for layer in LINES
    },
    'SyncBatchNorm': lambda: net(
        lambda s, y: s.b(s.layer(y)), layer=nn.SyncBatchNorm(8)
    ),
}


ALONG_MAPS = dict(
    rolled=lambda y: y.roll((1, 2), (2, 3)),
    selected=lambda y: y - y.select(3, 0).unsqueeze(3),
    unbound=lambda y: torch.stack(y.unbind(3), 3),
    narrowed=lambda y: y.narrow(2, 0, 4),
    interleaved=lambda y: y.repeat_interleave(2, 2).repeat_interleave(2, dim=3),
    unflattened=lambda y: y.unflatten(3, (2, 4)).flatten(3),
    normalized_rows=lambda y: F.normalize(y, dim=2),
    normed_by_itself=lambda y: F.instance_norm(y),
    gated_maps=lambda y: F.glu(y, 3),
    expanded_as_itself=lambda y: (
        y * y.mean((2, 3), keepdim=True).sigmoid().expand_as(y)
    ),
    plus_new_zeros=lambda y: y + y.new_zeros(y.size(0), 1, y.size(2), 1),
    compared=lambda y: torch.where(y > 0, y, 0.1 * y),
    compared_with_another=lambda y: y * (y >= y.mean((2, 3), keepdim=True)),
)
NETS.update({name: after(function) for name, function in ALONG_MAPS.items()})


def masked(module):
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    module.a.mask.pruned[[0, 3]] = True
    return channels


@pytest.mark.parametrize('name', NETS)
def test_dead_channels_leave_through_it(name):
    module = NETS[name]()
    channels = masked(module)
    assert channels.leaving_of('a').nonzero().flatten().tolist() == [0, 3]
    expected = call(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert layer_sizes(smaller)['a'] == (6, 6)
    assert largest_difference(expected, call(smaller, IMAGES)) < 1e-5


STAYS = dict(
    normalized=(lambda y: F.normalize(y), 'normalize() over all channels'),
    groups_of_fixed_number=(lambda y: F.group_norm(y, 4), 'group_norm()'),
    expanded_as_it=(
        lambda y: y + y.new_ones(1, 1, 1, 1).expand_as(y).sum(1)[:, None],
        'a view of fixed size',
    ),
    new_with_its_number=(
        lambda y: y + y.new_ones(y.size(1)).sum(0),
        'its number is used by new_ones()',
    ),
    rand_like=(lambda y: y + torch.rand_like(y), 'draws random numbers'),
    randn_like=(lambda y: y * torch.randn_like(y), 'draws random numbers'),
    dropout=(lambda y: F.dropout(y, 0.5, training=True), 'draws random'),
    unbind=(lambda y: torch.cat(y.unbind(1)).view(2, 8, 8, 8), 'unbind()'),
    select=(lambda y: y + y.select(1, 2).unsqueeze(1), 'select()'),
    narrow=(lambda y: torch.cat([y.narrow(1, 0, 4)] * 2, 1), 'narrow()'),
    roll=(lambda y: y.roll(1, 1), 'roll()'),
    repeat_interleave=(
        lambda y: y.repeat_interleave(2, 1)[:, ::2],
        'repeat_interleave()',
    ),
    unflatten=(lambda y: y.unflatten(1, (2, 4)).flatten(1, 2), 'unflatten()'),
    mean=(lambda y: y - y.mean(), 'mean() over all channels'),
    mean_of_channels=(lambda y: y - y.mean(-3, keepdim=True), 'mean() over'),
    largest=(lambda y: y / y.amax((1, 2), keepdim=True), 'amax() over all'),
    norm=(lambda y: y / y.norm(), 'norm() over all channels'),
    norm_of_channels=(lambda y: y / y.norm(dim=1, keepdim=True), 'norm()'),
    softmax=(lambda y: y.softmax(dim=1), 'softmax() over all channels'),
    sorted_maps=(lambda y: y.sort(2)[0], 'sort() reads it, which is not'),
    padded=(lambda y: F.pad(y, (0, 0, 0, 0, 1, 0))[:, 1:], 'pad()'),
    sizes_of_parts=(
        lambda y: torch.cat(y.split([2, 6], 1), 1),
        'parts of fixed sizes',
    ),
    size_of_parts=(
        lambda y: torch.cat(y.split(4, dim=1), 1),
        'parts of a fixed size',
    ),
    uneven=(lambda y: torch.cat(y.chunk(3, dim=1), 1), 'split unevenly'),
    every_second=(lambda y: torch.cat([y[:, ::2]] * 2, 1), 'fixed ends'),
    axis=(lambda y: y.softmax(axis=1), 'softmax() over all channels'),
    mean_over_axis=(
        lambda y: y - y.mean(axis=1, keepdims=True),
        'mean() over all channels',
    ),
    sum_of_no_dimension=(lambda y: y / y.sum(()), 'sum() over all channels'),
    places=(
        lambda y: y + torch.where(y)[0].float().mean(),
        'where() makes several of it',
    ),
    as_numbers=(
        lambda y: y.view(torch.int32).view(torch.float32),
        'a view as another type',
    ),
)


@pytest.mark.parametrize('name', STAYS)
def test_what_goes_across_channels_keeps_them_and_says_so(name):
    function, why = STAYS[name]
    module = after(function)()
    channels = masked(module)
    assert not channels.leaving_of('a').any()
    assert all(why in reason for reason in channels.why_not('a'))
    assert (
        largest_difference(
            call(module, IMAGES), call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )


NUMBERS = {
    # behind the division 8 / 2 = 4 of each of two groups are meant
    'half': (lambda n: n // 2, True),
    'double': (lambda n: 2 * n // 4, True),
    'sum': (lambda n: (n + n) // 4, True),
    'nothing more': (lambda n: (n + 0) // 2, True),
    'reversed sum': (lambda n: (0 + n) // 2, True),
    'less': (lambda n: n - 4, False),
    'from above': (lambda n: 12 - n, False),
    'more': (lambda n: n + 1 - 5, False),
    'one more before': (lambda n: 1 + n - 5, False),
    'remainder': (lambda n: n % 12 - 4, False),
    'reversed remainder': (lambda n: 12 % n, False),
    'rounded': (lambda n: n // 3 + 2, False),
    'a third': (lambda n: n // 3 * 2, False),
    'inverse': (lambda n: 32 // n, False),
    'power': (lambda n: n**1 - 4, False),
    'exponent': (lambda n: 2**n // 64, False),
    'quotient': (lambda n: int(n / 2), False),
    'reversed quotient': (lambda n: int(32 / n), False),
    'both': (lambda n: divmod(n, 2)[0], False),
    'float': (lambda n: int(float(n)) - 4, False),
    'equal': (lambda n: 4 if n == 8 else 1, False),
    'not equal': (lambda n: 1 if n != 8 else 4, False),
    'less than': (lambda n: 4 if 7 < n else 1, False),
    'greater': (lambda n: 4 if n > 7 else 1, False),
    'at most': (lambda n: 4 if n <= 8 else 1, False),
    'at least': (lambda n: 4 if n >= 8 else 1, False),
    'smaller': (lambda n: 4 if n < 9 else 1, False),
}


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_of_channels_that_are_computed_with(name):
    """Halves follow the channels; whatever is not known keeps them all."""
    compute, follows = NUMBERS[name]
    module = net(lambda s, y: s.b(y[:, : compute(y.size(1))]), 4)
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    # as many of either half, in the same places
    module.a.mask.pruned[[0, 3, 4, 7]] = True
    assert bool(channels.leaving_of('a').any()) is follows
    expected = call(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    assert layer_sizes(smaller)['a'] == ((4, 6) if follows else (8, 6))
    assert largest_difference(expected, call(smaller, IMAGES)) < 1e-5


COUNTS = dict(
    numel=lambda y: y.numel() / 1024,
    nelement=lambda y: y.nelement() / 1024,
    length=lambda y: len(y[0]) / 8,
    torch_s=lambda y: torch.numel(y) / 1024,
)


@pytest.mark.parametrize('name', COUNTS)
def test_numbers_of_elements_that_are_computed_with(name):
    module = net(lambda s, y: s.b(y * COUNTS[name](y)))
    assert not masked(module).leaving_of('a').any()
    assert (
        largest_difference(
            call(module, IMAGES), call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )


PROPERTIES = dict(
    T=lambda y: y.flatten(1).T.T.view(2, -1, 8, 8),
    mT=lambda y: y.mT,
    real=lambda y: y.real,
    mH=lambda y: y.mH.mT,
    H=lambda y: y.flatten(1).H.H.view(2, -1, 8, 8),
    data=lambda y: y.data,
)


@pytest.mark.parametrize('name', PROPERTIES)
def test_properties_that_give_tensors_are_followed_or_refuse_nothing(name):
    module = net(lambda s, y: s.b(PROPERTIES[name](y)))
    channels = masked(module)
    assert channels.leaving_of('p').shape == (6,)
    assert (
        largest_difference(
            call(module, IMAGES), call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )


def test_imaginary_parts_are_followed_or_refuse_nothing():
    module = net(lambda s, y: s.b(torch.complex(y, y.abs()).imag))
    masked(module)
    assert (
        largest_difference(
            call(module, IMAGES), call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )


SPELLINGS = dict(
    mean=lambda y: y - y.mean(axis=(2, 3), keepdims=True),
    mean_dropped=lambda y: y - y.mean(axis=-1)[..., None],
    softmax=lambda y: y.softmax(axis=2),
    joined=lambda y: torch.cat([y, y], axis=2),
    stacked=lambda y: torch.stack([y, y], axis=2).flatten(2, 3),
    norm=lambda y: y / y.norm(dim=(2, 3), keepdim=True),
    std=lambda y: y + y.std(axis=2, keepdims=True, correction=0),
    view=lambda y: y.view(size=(y.size(0), y.size(1), -1))[..., None],
    reshape=lambda y: y.reshape(shape=(y.size(0), -1, 64))[..., None],
    expand=lambda y: y[..., :1].expand(size=(-1, y.size(1), -1, 4)),
    squeeze=lambda y: y[..., :1].squeeze(dim=3)[..., None],
    squeeze_all=lambda y: (
        y * y.mean((2, 3), keepdim=True).squeeze()[..., None, None]
    ),
    unsqueeze=lambda y: y.unsqueeze(dim=2).flatten(2, 3),
    chunk=lambda y: torch.cat(y.chunk(chunks=2, dim=2), 3),
    padded=lambda y: F.pad(y, pad=(1, 1, 1, 1)),
    only_names=lambda y: F.interpolate(input=y, scale_factor=2),
    joined_by_name=lambda y: torch.cat(tensors=[y, y], dim=2),
    of_a_builtin=lambda y: torch.mean(input=y, dim=2, keepdim=True) + y,
)


@pytest.mark.parametrize('name', SPELLINGS)
def test_arguments_may_go_by_any_of_their_names(name):
    module = net(lambda s, y: s.b(SPELLINGS[name](y)))
    channels = masked(module)
    assert channels.leaving_of('a').nonzero().flatten().tolist() == [0, 3]
    cut(module, channels, IMAGES)


def test_what_is_written_into_another_tensor_stays():
    module = net(lambda s, y: s.b(torch.cat([y, y], 1, out=torch.empty(0))), 16)
    why = 'cat() writes it into another tensor'
    assert masked(module).why_not('a') == {why: 8}


def test_a_pixel_shuffle_may_name_its_factor():
    module = net(lambda s, y: s.b(F.pixel_shuffle(y, upscale_factor=2)), 2)
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    module.a.mask.pruned[:4] = True
    assert channels.leaving_of('a').sum() == 4
    cut(module, channels, IMAGES)


SQUEEZES = dict(
    all=lambda y: y.squeeze(),
    one=lambda y: y.squeeze(1).squeeze(-1).squeeze(-1),
    several=lambda y: y.squeeze((1, 2, 3)),
)


@pytest.mark.parametrize('name', SQUEEZES)
def test_where_a_dimension_of_one_is_dropped_two_channels_stay(name):
    module = net(
        lambda s, y: (
            s.b(y)
            * s.l(SQUEEZES[name](y.mean((2, 3), keepdim=True)))[..., None, None]
        ),
        l=nn.Linear(8, 3),
    )
    channels = mask_channels(module, IMAGES, convs=['p', 'a'])
    for mask in channels.masks.values():
        mask.prune(7)
    assert layer_sizes(cut(module, channels, IMAGES))['a'] == (2, 1)
    expected = call(module, IMAGES)
    assert shrink_channels(module, IMAGES) == 5 + 6
    assert largest_difference(expected, call(module, IMAGES)) < 1e-5
    assert shrink_channels(module, IMAGES) == 0


def test_two_that_are_added_leave_where_both_are_dead():
    module = net(lambda s, y: s.b(y + s.c(y)), c=conv(8, 8))
    channels = mask_channels(module, IMAGES)
    module.a.mask.pruned[[0, 3]] = module.c.mask.pruned[[3, 5]] = True
    for name in ('a', 'c'):
        assert channels.leaving_of(name).nonzero().flatten().tolist() == [3]
    expected = call(module, IMAGES)
    assert (
        largest_difference(
            expected, call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )


def test_a_sum_of_numbers_follows_both():
    """Half of what is put together is one of the two."""

    def half(s, y):
        z = s.c(y)
        both = torch.cat([y, z], 1)
        return s.b(both[:, : (y.size(1) + z.size(1)) // 2])

    module = net(half, c=conv(8, 8))
    channels = mask_channels(module, IMAGES)
    for layer in (module.a, module.c):
        layer.mask.pruned[[0, 3]] = True
    assert channels.leaving_of('a').nonzero().flatten().tolist() == [0, 3]
    expected = call(module, IMAGES)
    assert (
        largest_difference(
            expected, call(discard_channels(module, IMAGES), IMAGES)
        )
        < 1e-5
    )
