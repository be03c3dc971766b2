"""Channels taken out in the middle of a training: it goes on as if they were
zero."""

import copy

import pytest
import torch
import torch.nn as nn
from channel_checks import Net, as_trained, call, conv, net
from mmagic.models.editors.biggan.biggan_snmodule import (
    SNConv2d,
    SNEmbedding,
    SNLinear,
)
from mmagic.models.editors.pggan.pggan_modules import equalized_lr
from torch.nn.utils import parametrizations, spectral_norm

from ppcd_mmagic.channels import (
    fit_to_state,
    fold_computed_weights,
    largest_difference,
    layer_sizes,
    link_masks,
    mask_channels,
    named_masks,
    narrow_to_state,
    resize_layers,
    shrink_channels,
    zero_dead_channels,
)
from ppcd_mmagic.channels.masks import input_gate
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.registry import MODELS

IMAGES = torch.randn(
    4, 3, 8, 8, generator=torch.Generator().manual_seed(1)
).double()
# dead in masks whose channels leave in halves or quarters
DEAD = [0, 1, 4, 5]


def behind(layer, inputs=8, **more):
    """``layer`` between the norm and ``b``."""
    return lambda: net(
        lambda s, y: s.b(s.layer(y).relu()), inputs, layer=layer(), **more
    )


def of_all(wrap, kind=nn.Conv2d):
    module = net(lambda s, y: s.b(s.c(y).relu()), c=kind(8, 8, 3, padding=1))
    for name in ('a', 'c'):
        layer = getattr(module, name)
        if kind is not nn.Conv2d and name == 'a':
            layer = kind(6, 8, 3, padding=1)
        setattr(module, name, wrap(layer))
    return module


def conditional(s, y):
    return s.b(s.n(y) * s.gain(s.labels)[:, :, None, None])


KINDS = dict(
    plain=net,
    spectral_norm=lambda: of_all(spectral_norm),
    spectral_norm_new=lambda: of_all(parametrizations.spectral_norm),
    spectral_norm_ajbrock=lambda: of_all(lambda layer: layer, SNConv2d),
    equalized=lambda: of_all(equalized_lr),
    equalized_by_outputs=lambda: of_all(
        lambda layer: equalized_lr(layer, mode='fan_out')
    ),
    spectral_grouped=behind(lambda: spectral_norm(conv(8, 8, groups=2))),
    spectral_transposed=behind(
        lambda: spectral_norm(nn.ConvTranspose2d(8, 8, 3))
    ),
    spectral_grouped_transposed_new=behind(
        lambda: parametrizations.spectral_norm(
            nn.ConvTranspose2d(8, 8, 3, groups=2)
        )
    ),
    spectral_by_inputs=behind(lambda: spectral_norm(conv(8, 8), dim=1)),
    spectral_by_inputs_new=behind(
        lambda: parametrizations.spectral_norm(conv(8, 4), dim=1), 4
    ),
    spectral_twice=behind(
        lambda: parametrizations.spectral_norm(
            parametrizations.spectral_norm(conv(8, 8)), dim=1
        )
    ),
    grouped=behind(lambda: conv(8, 4, groups=2), 4),
    grouped_transposed=behind(lambda: nn.ConvTranspose2d(8, 4, 3, groups=2), 4),
    depthwise=behind(lambda: conv(8, 8, groups=8)),
    transposed=behind(lambda: nn.ConvTranspose2d(8, 8, 3)),
    group_norm=behind(lambda: nn.GroupNorm(4, 8)),
    prelu=behind(lambda: nn.PReLU(8)),
    embedding=lambda: net(
        conditional, gain=nn.Embedding(3, 8), labels=torch.tensor([0, 2, 1, 2])
    ),
    embedding_ajbrock=lambda: net(
        conditional, gain=SNEmbedding(3, 8), labels=torch.tensor([0, 2, 1, 2])
    ),
    parameter=lambda: net(
        lambda s, y: s.b(y * s.w), w=nn.Parameter(torch.ones(8, 1, 1))
    ),
    linear=lambda: net(
        lambda s, y: s.b(y) * s.l(y.mean((2, 3)))[:, :, None, None],
        l=nn.Linear(8, 3),
    ),
    linear_ajbrock=lambda: net(
        lambda s, y: s.b(y) * s.l(y.flatten(1))[:, :, None, None],
        l=SNLinear(8 * 64, 3),
    ),
)


def fresh(name):
    torch.manual_seed(0)
    module = KINDS[name]().double()
    mask_channels(module, IMAGES, convs=['p', 'a'])
    return module


def prepared(name, steps=2):
    """A network and its optimizer after some steps, half of ``p``'s and
    ``a``'s channels dead."""
    module = fresh(name)
    optimizer = torch.optim.Adam(
        [dict(params=[p], lr=1e-2) for p in module.parameters()]
    )
    train(module, optimizer, steps)
    module.p.mask.pruned[:3] = True
    module.a.mask.pruned[DEAD] = True
    return module, optimizer


def train(module, optimizer, steps):
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        loss = (
            (module.train()(IMAGES + torch.randn_like(IMAGES)) - 1)
            .square()
            .mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def size(module):
    return sum(p.numel() for p in module.parameters())


def in_the_optimizer(optimizer):
    return sum(
        value.numel()
        for state in optimizer.state.values()
        for value in state.values()
        if value.ndim
    )


@pytest.mark.parametrize('name', KINDS)
def test_what_is_cut_trains_on_as_what_is_zeroed(name):
    zeroed, its_optimizer = prepared(name)
    cut, optimizer = prepared(name)
    before = size(cut)
    zero_dead_channels(zeroed, IMAGES, its_optimizer)
    removed = shrink_channels(cut, IMAGES, optimizer)
    assert removed == 3 + 4 and size(cut) < before == size(zeroed)
    assert in_the_optimizer(optimizer) == 2 * size(cut)
    # equalizing rounds to single precision
    rounds = 1e-6 if 'equalized' in name else 1e-9
    assert largest_difference(call(zeroed, IMAGES), call(cut, IMAGES)) < rounds
    expected, found = train(zeroed, its_optimizer, 3), train(cut, optimizer, 3)
    assert found == pytest.approx(expected, rel=100 * rounds)
    assert (
        largest_difference(call(zeroed, IMAGES), call(cut, IMAGES))
        < 1000 * rounds
    )
    # and nothing dead has come back
    (kernel,) = (p for p in zeroed.a.parameters() if p.ndim == 4)
    assert not kernel[DEAD].any() and not kernel[:, :3].any()


@pytest.mark.parametrize(
    'name',
    [
        name
        for name in KINDS
        if 'spectral' not in name and 'ajbrock' not in name
    ],
)
def test_without_spectral_norm_removal_changes_nothing(name):
    module, optimizer = prepared(name)
    expected = call(module, IMAGES)
    shrink_channels(module, IMAGES, optimizer)
    assert largest_difference(expected, call(module, IMAGES)) < (
        1e-6 if 'equalized' in name else 1e-12
    )


@pytest.mark.parametrize(
    'name', [name for name in KINDS if 'spectral' in name or 'ajbrock' in name]
)
def test_spectral_norm_is_that_of_what_lives(name):
    """Found before the next step asks for it; and modes stay."""
    module, optimizer = prepared(name, steps=20)
    module.train()
    module.b.eval()
    shrink_channels(module, IMAGES, optimizer)
    assert module.training and module.a.training and not module.b.training
    call(module, IMAGES)
    plain = fold_computed_weights(copy.deepcopy(module.eval())) or module
    normed = 0
    for layer in plain.modules():
        kind = type(layer).__name__
        if kind.startswith(('SN', 'Parametrized')) or hasattr(
            layer, 'weight_u'
        ):
            weight = (
                layer.sn_weight() if kind.startswith('SN') else (layer.weight)
            )
            dim = int(
                isinstance(layer, nn.ConvTranspose2d)
                or 'by_inputs' in name
                or 'twice' in name
            )
            matrix = weight.detach().movedim(dim, 0).flatten(1)
            assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(
                1, abs=0.1
            )
            normed += 1
    assert normed


@pytest.mark.parametrize('name', KINDS)
def test_a_fresh_network_takes_the_sizes_and_the_weights_of_a_cut_one(name):
    cut, optimizer = prepared(name)
    shrink_channels(cut, IMAGES, optimizer)
    other = fresh(name)
    its_optimizer = torch.optim.Adam(
        [dict(params=[p], lr=1e-2) for p in other.parameters()]
    )
    fit_to_state(other, IMAGES, cut.state_dict(), its_optimizer)
    other.load_state_dict(cut.state_dict())
    its_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert layer_sizes(other) == layer_sizes(cut)
    assert largest_difference(call(other, IMAGES), call(cut, IMAGES)) == 0
    assert train(other, its_optimizer, 2) == train(cut, optimizer, 2)


def test_it_can_go_on_pruning_and_be_cut_again():
    module, optimizer = prepared('plain')
    assert shrink_channels(module, IMAGES, optimizer) == 7
    assert shrink_channels(module, IMAGES, optimizer) == 0
    for name, mask in named_masks(module):
        mask.prune(mask.num_pruned + 1)
    expected = call(module, IMAGES)
    assert shrink_channels(module, IMAGES, optimizer) == 2
    assert (module.p.out_channels, module.a.out_channels) == (2, 3)
    assert largest_difference(expected, call(module, IMAGES)) < 1e-12
    assert [m.num_pruned for _, m in named_masks(module)] == [4, 5]
    assert [m.num_removed for _, m in named_masks(module)] == [4, 5]


def test_an_optimizer_that_has_not_stepped_has_nothing_to_cut():
    module, optimizer = prepared('plain', steps=0)
    shrink_channels(module, IMAGES, optimizer)
    held = [p for group in optimizer.param_groups for p in group['params']]
    assert {id(p) for p in held} == {id(p) for p in module.parameters()}
    assert not optimizer.state
    train(module, optimizer, 1)


def test_what_asks_for_no_gradient_goes_on_asking_for_none():
    module, _ = prepared('plain', steps=0)
    module.a.weight.requires_grad_(False)
    shrink_channels(module, IMAGES)
    assert not module.a.weight.requires_grad
    assert module.a.bias.requires_grad and module.b.weight.requires_grad


SIZES = dict(
    conv=(nn.Conv2d(6, 8, 3), (8, 6)),
    grouped=(nn.Conv2d(4, 8, 3, groups=2), (8, 4)),
    depthwise=(nn.Conv2d(8, 8, 3, groups=8), (8, 8)),
    transposed=(nn.ConvTranspose2d(6, 8, 3), (8, 6)),
    linear=(nn.Linear(6, 8), (8, 6)),
    embedding=(nn.Embedding(5, 8), (8,)),
    norm=(nn.BatchNorm2d(8), (8,)),
    plain_norm=(nn.BatchNorm2d(8, affine=False), (8,)),
    instance_norm=(nn.InstanceNorm2d(8, affine=True), (8,)),
    group_norm=(nn.GroupNorm(4, 8), (8,)),
    prelu=(nn.PReLU(8), (8,)),
)


@pytest.mark.parametrize('name', SIZES)
def test_sizes_of_layers_by_their_names(name):
    layer, expected = SIZES[name]
    model = nn.ModuleDict({name: layer, 'other': nn.PReLU(8)})
    assert layer_sizes(model) == {name: expected, 'other': (8,)}
    smaller = tuple(n // 2 for n in expected)
    resize_layers(model, {name: smaller})
    assert layer_sizes(model) == {name: smaller, 'other': (8,)}
    if name == 'group_norm':
        assert layer.num_groups == 2
    if name == 'depthwise':
        assert layer.groups == 4
    if name == 'grouped':
        assert layer.groups == 2 and layer.weight.shape == (4, 1, 3, 3)
    inputs = {1: torch.zeros(2, 4, 5, 5), 2: torch.zeros(2, smaller[-1], 5, 5)}[
        len(expected)
    ]
    if name == 'linear':
        inputs = torch.zeros(2, 3)
    if name == 'embedding':
        inputs = torch.tensor([4])
    layer(inputs)


def test_sizes_of_parameters_are_their_shapes():
    module = net(
        w=nn.Parameter(torch.rand(8, 1, 1)),
        scalar=nn.Parameter(torch.tensor(1.0)),
    )
    module.deep = nn.Module()
    module.deep.w = nn.Parameter(torch.rand(4, 5))
    sizes = layer_sizes(module)
    assert sizes.pop('w') == (8, 1, 1) and sizes.pop('deep.w') == (4, 5)
    assert sizes == {'p': (6, 3), 'a': (8, 6), 'n': (8,), 'b': (3, 8)}
    w, deep = module.w.clone(), module.deep.w.clone()
    resize_layers(module, {'w': [5, 1, 1], 'deep.w': (4, 2)})
    assert torch.equal(module.w, w[:5])
    assert torch.equal(module.deep.w, deep[:, :2])


def test_the_first_channels_are_kept_of_each_group():
    module = nn.ModuleDict(dict(c=nn.Conv2d(8, 6, 1, groups=2)))
    weight, bias = module.c.weight.clone(), module.c.bias.clone()
    resize_layers(module, {'c': (4, 4)})
    assert torch.equal(module.c.weight, weight[[0, 1, 3, 4], :2])
    assert torch.equal(module.c.bias, bias[[0, 1, 3, 4]])


@pytest.mark.parametrize('dim', (0, 1))
@pytest.mark.parametrize('groups', (1, 2))
@pytest.mark.parametrize('kind', (nn.Conv2d, nn.ConvTranspose2d))
@pytest.mark.parametrize('new', (False, True))
def test_singular_vectors_are_those_of_the_channels_that_stay(
    dim, groups, kind, new
):
    """Numbers in the places of the vectors' own say which entries stay."""
    wrap = parametrizations.spectral_norm if new else spectral_norm
    layer = wrap(kind(8, 4, 3, groups=groups), dim=dim)
    numbers = torch.arange(float(layer.weight.numel()))
    numbers = numbers.view(layer.weight.shape)
    first = [0] * 4
    first[dim] = slice(None)
    rest = [slice(None)] * 4
    rest[dim] = 0

    def vectors():
        if not new:
            return layer.weight_u, layer.weight_v
        return dict(layer.named_buffers()).values()

    for vector, part in zip(vectors(), (first, rest)):
        vector.copy_(numbers[part].flatten())
    resize_layers(nn.ModuleDict(dict(c=layer)), {'c': (2, 4)})
    into, out = 4 // groups, 2 // groups
    if kind is nn.ConvTranspose2d:
        rows = [i for i in range(8) if i % (8 // groups) < into]
        left = numbers[rows][:, :out]
    else:
        rows = [i for i in range(4) if i % (4 // groups) < out]
        left = numbers[rows][:, :into]
    for vector, part in zip(vectors(), (first, rest)):
        assert torch.equal(vector, left[part].flatten())


@pytest.mark.parametrize(
    'name, size, has',
    [
        ('c', (4, 4), 'no such layer'),
        ('a', (9, 6), r'\(8, 6\)'),
        ('a', (8, 7), r'\(8, 6\)'),
        ('a', (0, 6), r'\(8, 6\)'),
        ('a', (8,), r'\(8, 6\)'),
        ('n', (8, 8), r'\(8,\)'),
        ('g', (5, 8), r'\(6, 8\) in 2 groups'),
        ('g', (4, 7), r'\(6, 8\) in 2 groups'),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name, size, has):
    module = net(g=conv(8, 6, groups=2))
    before = layer_sizes(module)
    with pytest.raises(PPCDError, match=f'Layer "{name}" of size .*{has}'):
        resize_layers(module, {name: size})
    assert layer_sizes(module) == before


@pytest.mark.parametrize(
    'wrap', [lambda layer: layer, spectral_norm, parametrizations.spectral_norm]
)
def test_a_network_becomes_as_narrow_as_a_state_and_says_whether(wrap):
    wide, narrow = net(), net()
    for module in (wide, narrow):
        module.a = wrap(module.a)
    assert not narrow_to_state(narrow, wide.state_dict())
    resize_layers(narrow, {'a': (1, 6), 'n': (1,), 'b': (3, 1)})
    assert narrow_to_state(wide, narrow.state_dict())
    sizes = layer_sizes(wide)
    assert sizes == layer_sizes(narrow)
    assert (sizes['a'], sizes['n'], sizes['b']) == ((1, 6), (1,), (3, 1))
    assert not narrow_to_state(wide, net().state_dict())


def test_of_a_state_only_what_is_there_and_fits_counts():
    module, state = net(w=nn.Parameter(torch.rand(8))), net().state_dict()
    del state['b.weight'], state['b.bias']
    state['a.weight'] = torch.zeros(4, 6, 3, 3)
    state['n.weight'] = torch.zeros(9)  # wider
    state['w'] = torch.zeros(4, 1)  # another form
    assert narrow_to_state(module, state)
    assert layer_sizes(module) == {
        'p': (6, 3),
        'a': (4, 6),
        'n': (8,),
        'b': (3, 8),
        'w': (8,),
    }


def test_norms_without_weights_have_nothing_to_go_by():
    module = net(i=nn.BatchNorm2d(8, affine=False, track_running_stats=False))
    state = dict(module.state_dict(), **{'i.weight': torch.zeros(4)})
    assert not narrow_to_state(module, state)


PLAIN = dict(
    conv=lambda: SNConv2d(4, 6, 3, 2, 1, bias=False),
    grouped=lambda: SNConv2d(4, 6, 3, 1, 2, 2, groups=2),
    linear=lambda: SNLinear(4, 6),
    linear_without_bias=lambda: SNLinear(4, 6, bias=False),
    embedding=lambda: SNEmbedding(4, 6),
)


@pytest.mark.parametrize('name', PLAIN)
@pytest.mark.parametrize('training', [False, True])
def test_computed_weights_become_plain_ones_of_the_same_value(name, training):
    torch.manual_seed(0)
    layer = PLAIN[name]()
    if getattr(layer, 'bias', None) is not None:
        layer.bias.data.normal_()
    layer.mask = nn.Identity()  # what it carries stays with it
    model = nn.ModuleDict(dict(layer=layer)).train(training)
    inputs = dict(
        conv=torch.randn(2, 4, 8, 8),
        grouped=torch.randn(2, 4, 8, 8),
        embedding=torch.tensor([0, 3]),
    ).get(name, torch.randn(2, 4))
    seen = []
    layer.register_forward_hook(lambda *_: seen.append('behind'))
    layer.register_forward_pre_hook(lambda *_: seen.append('ahead'))
    layer.eval()
    expected = layer(inputs)
    layer.train(training)
    fold_computed_weights(model)
    plain = model['layer']
    assert type(plain).__module__.startswith('torch.nn')
    assert largest_difference([expected], [plain(inputs)]) == 0
    assert seen == 2 * ['ahead', 'behind']
    assert plain.training is training and plain.mask is layer.mask
    assert (
        plain.weight is not layer.weight
        and plain.weight.data_ptr() != layer.weight.data_ptr()
    )
    assert set(plain.state_dict()) <= {'weight', 'bias'}


@pytest.mark.parametrize(
    'wrap', [spectral_norm, parametrizations.spectral_norm]
)
def test_spectral_norm_of_torch_leaves_no_trace(wrap):
    """A checkpoint without its vectors loads afterwards."""
    module = net()
    module.a = wrap(module.a)
    module.b = wrap(module.b)
    module.eval()
    expected = call(module, IMAGES.float())
    fold_computed_weights(module)
    assert type(module.a) is nn.Conv2d
    assert set(module.state_dict()) == set(net().state_dict())
    assert largest_difference(expected, call(module, IMAGES.float())) == 0
    assert all(p.is_leaf and p.requires_grad for p in module.parameters())
    module.load_state_dict(net().state_dict())
    assert (
        largest_difference(
            call(net(), IMAGES.float()), call(module, IMAGES.float())
        )
        == 0
    )


@pytest.mark.parametrize('tie', [False, True])
def test_a_score_is_trained_by_its_reader_beside_channels_that_two_share(tie):
    """By finite differences. The norm hides what its convolution writes; of
    what two convolutions write, and do not share a score, none is trained."""
    torch.manual_seed(0)
    module = (
        Net(
            lambda s, x: s.b(s.n(torch.cat([s.a(x) + s.c(x), s.d(x)], 1))),
            a=conv(3, 4),
            c=conv(3, 4),
            d=conv(3, 4),
            n=nn.BatchNorm2d(8),
            b=conv(8, 3),
        )
        .double()
        .train()
    )
    mask_channels(module, IMAGES, tie=tie)
    module(IMAGES).square().mean().backward()
    factor = torch.ones(1, 8, 1, 1).double()
    module.n.register_forward_pre_hook(lambda layer, args: args[0] * factor)
    module.b.register_forward_pre_hook(lambda layer, args: args[0] * factor)
    slopes = []
    for channel in range(8):
        around = []
        for step in (1e-6, -1e-6):
            factor[0, channel] = 1 + step
            around.append(float(module(IMAGES).square().mean()))
        factor[0, channel] = 1
        slopes.append((around[0] - around[1]) / 2e-6)
    found = module.d.mask.weight.grad
    assert found.tolist() == pytest.approx(slopes[4:], rel=1e-4)
    assert found.abs().min() > 1e-3
    if tie:
        assert module.a.mask.weight.grad.tolist() == pytest.approx(
            slopes[:4], rel=1e-4
        )


def of_two_norms(s, x):
    return s.b((s.n(s.a(x)) + s.m(s.c(x))).relu())


def of_one_norm(s, x):
    return s.b(s.n(s.a(x) + s.c(x)).relu())


def of_a_gain(s, x):
    return s.b((s.n(s.a(x)) * s.c(x)).relu())


def of_a_map(s, x):
    features = x.mean((2, 3))
    return s.b((s.n(s.a(x)) + s.m(s.c(features).view(4, -1, 8, 8))).relu())


# whether a norm undoes the gates on the outputs of a and of c
BEHIND_NORMS = {
    of_two_norms: (True, True),
    of_one_norm: (False, False),
    of_a_gain: (True, False),
    of_a_map: (True, True),
}


@pytest.mark.parametrize('run', BEHIND_NORMS, ids=lambda run: run.__name__)
def test_of_several_scores_a_reader_trains_those_whose_gates_a_norm_undoes(run):
    """By finite differences, of a factor on what a layer writes, and where a
    norm is behind it also on what the reader reads."""
    torch.manual_seed(0)
    linear = nn.Linear(3, 256) if run is of_a_map else conv(3, 4)
    layers = dict(a=conv(3, 4), c=linear, b=conv(4, 3))
    norms = dict(n=nn.BatchNorm2d(4), m=nn.BatchNorm2d(4))
    module = as_trained(Net(run, **layers, **norms)).double().train()
    linears = 'c' if run is of_a_map else ()
    mask_channels(module, IMAGES, linears=linears)
    module(IMAGES).square().mean().backward()
    found = {name: getattr(module, name).mask.weight.grad for name in 'ac'}
    module.zero_grad()
    factors = {
        name: torch.ones(1, 4, 1, 1).double().requires_grad_()
        for name in layers
    }
    for name in 'ac':
        getattr(module, name).register_forward_hook(
            lambda layer, args, out, name=name: (
                out * factors[name]
                if out.ndim == 4
                else out * factors[name].flatten().repeat_interleave(64)
            )
        )
    module.b.register_forward_pre_hook(lambda _, args: args[0] * factors['b'])
    module(IMAGES).square().mean().backward()
    slopes = {name: each.grad.flatten() for name, each in factors.items()}
    for name, normed in zip('ac', BEHIND_NORMS[run]):
        expected = slopes[name] + (slopes['b'] if normed else 0)
        assert torch.allclose(found[name].double(), expected, rtol=1e-5)
        assert expected.abs().min() > 1e-4
    gate = input_gate(module.b)
    module.a.mask.prune(2)
    assert gate.value().tolist() == [1.0] * 4
    module.c.mask.pruned.copy_(module.a.mask.pruned)
    assert gate.value().tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize('kind', ['SAGAN', 'BigGAN'])
@pytest.mark.parametrize('masks', ['shared', 'independent'])
@pytest.mark.parametrize('linears', [[], ['noise2feat']])
def test_students_meet_before_their_norms_and_train_as_ever(
    kind, masks, linears
):
    """By gates on outputs alone: what was trained can be trained again."""
    generator = MODELS.build(
        dict(
            type=f'PPRes{kind}Generator',
            output_scale=32,
            noise_size=8,
            num_classes=3,
            base_channels=8,
            residual_masks=masks,
            masked_linears=linears,
        )
    )
    link_masks(generator, example_inputs(generator))
    gates = [input_gate(layer) for layer in generator.modules()]
    assert any(gates)
    assert all(gate is None or gate.normed is None for gate in gates)
