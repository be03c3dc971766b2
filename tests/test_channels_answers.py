"""What ``Channels`` says of a masked network."""

import pytest
import torch
import torch.nn as nn
from channel_checks import Net, call, conv, net
from mmcv.cnn import ConvModule

from ppcd_mmagic.channels import (
    copy_masks,
    largest_difference,
    link_masks,
    mask_channels,
    register_rule,
)
from ppcd_mmagic.errors import PPCDError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def printed(module, **options):
    """By convolution, what is printed of it."""
    head, *lines = str(mask_channels(module, IMAGES, **options)).splitlines()
    return head, {
        line.split()[0]: line.split('channels  ')[1] for line in lines
    }


def test_a_line_for_each_convolution_in_columns():
    module = net(
        lambda s, y: s.long_name(y),
        long_name=conv(8, 12),
        last_of_all=conv(12, 3),
    )
    module.run = lambda s, x: s.last_of_all(s.long_name(s.n(s.a(s.p(x)))))
    assert (
        str(mask_channels(module, IMAGES))
        == """\
Net: masks on 3 of 5 convolutions
p               6 channels  masked, can leave
a               8 channels  masked, can leave
b               3 channels  not masked: not run on the example inputs
long_name      12 channels  masked, can leave
last_of_all     3 channels  not masked: is the image"""
    )


class Own(nn.Conv2d):
    """Has a forward of its own."""

    def forward(self, x):
        return super().forward(x) + 1


def hooked():
    layer = conv(8, 8)
    layer.register_forward_hook(lambda layer, args, out: out.flip(1))
    return layer


def one_weight_for_two():
    module = net(lambda s, y: s.b(s.c(y) + s.d(y)), c=conv(8, 8), d=conv(8, 8))
    module.d.weight = module.c.weight
    return module


NOT_MASKED = dict(
    b=(net, 'not masked: is the image'),
    a=(lambda: net(), 'not masked: excluded by name'),
    idle=(
        lambda: net(idle=conv(8, 8)),
        'not masked: not run on the example inputs',
    ),
    own=(
        lambda: net(lambda s, y: s.b(s.own(y)), own=Own(8, 8, 3, padding=1)),
        'not masked: it is a Own with a forward of its own, which no rule '
        'knows (register_rule)',
    ),
    hooked=(
        lambda: net(lambda s, y: s.b(s.hooked(y)), hooked=hooked()),
        'not masked: it has a hook that is not known',
    ),
    c=(one_weight_for_two, 'not masked: c shares a parameter with d'),
    alone=(
        lambda: net(lambda s, y: (s.alone(y), s.b(y))[1], alone=conv(8, 8)),
        'not masked: nothing that is known reads it',
    ),
    unread=(
        lambda: net(
            lambda s, y: (s.b(y), s.unread(y).abs().max() > 1),
            unread=conv(8, 8),
        ),
        'not masked: max() reads it, which is not known',
    ),
)


@pytest.mark.parametrize('name', NOT_MASKED)
def test_what_is_not_masked_says_why(name):
    build, why = NOT_MASKED[name]
    _, lines = printed(build(), exclude=['a'])
    assert lines[name] == why


def test_masks_that_are_only_linked_know_no_reason_for_the_others():
    module = net()
    mask_channels(module, IMAGES, convs='p')
    assert '\na     8 channels  not masked\n' in str(link_masks(module, IMAGES))


def residual(s, y):
    return s.b(y + torch.cat([s.c(y), s.d(y)], 1))


def residual_net(run=residual, last=8):
    return net(run, last, c=conv(8, 4), d=conv(8, 4))


def shuffled(s, y):
    """Maps of four channels each, the first of which meets all that c has."""
    both = s.a(y) + torch.cat([s.c(y), s.d(y)], 1)
    return s.b(torch.nn.functional.pixel_shuffle(both, 2))


def test_what_leaves_together_is_named():
    _, lines = printed(residual_net())
    assert lines == dict(
        p='masked, can leave',
        a='masked, can leave with c, d',
        b='not masked: is the image',
        c='masked, can leave with a',
        d='masked, can leave with a',
    )


def test_what_leaves_in_groups_is_counted():
    module = net(c=conv(6, 4), d=conv(6, 8))
    module.a, module.b = conv(6, 12), conv(3, 3)
    module.run = lambda s, x: shuffled(s, s.p(x))
    channels = mask_channels(module, IMAGES)
    _, lines = printed(module)
    all_of_c = 'is all that c has'
    assert lines['a'] == (
        f'masked, can leave in 3 groups with c, d, but 4 of 12 stay: {all_of_c}'
    )
    assert lines['c'] == f'masked, stays: {all_of_c}'
    assert lines['d'] == 'masked, can leave in 2 groups with a'
    for mask in channels.masks.values():
        mask.pruned.fill_(True)
    assert not channels.leaving_of('c').any()
    assert channels.leaving_of('a').sum() == 4  # one of the two of d


def test_a_mask_of_what_is_all_that_a_layer_has_is_refused():
    module = net(lambda s, y: s.b(s.g(y)), g=nn.GroupNorm(1, 8))
    with pytest.raises(PPCDError, match='ever be discarded: is all that a has'):
        mask_channels(module, IMAGES, convs='a')


def test_what_stays_in_part_says_how_many_and_why():
    channels = mask_channels(residual_net(), IMAGES, exclude=['c'])
    why = 'meets the unmasked c before b reads it'
    _, lines = printed(residual_net(), exclude=['c'])
    assert lines['a'] == f'masked, can leave with d, but 4 of 8 stay: {why}'
    assert channels.why_not('a') == {why: 4}
    assert channels.why_not('d') == channels.why_not('p') == {}


def test_what_stays_whole_does_not_say_that_it_can_leave():
    _, lines = printed(residual_net(), exclude=['c', 'd'])
    assert lines['a'] == (
        'masked, 4 of 8 stay: meets the unmasked c before b reads it; '
        '4 of 8 stay: meets the unmasked d before b reads it'
    )
    _, lines = printed(net(lambda s, y: s.b(y.softmax(1))), convs=['a', 'p'])
    assert lines['a'] == 'masked, stays: softmax() over all channels reads it'


def only_softmax(s, x):
    return s.b(s.a(s.p(x).softmax(1)).softmax(1))


@pytest.mark.parametrize(
    'convs, message',
    [
        (
            '*',
            'convs: none of the layers of Net that match can carry a '
            'mask: softmax() over all channels reads it (2); is the image (1).',
        ),
        (
            ['a', 'p'],
            'No channel of Net could ever be discarded: softmax() over '
            'all channels reads it (2). Mask other layers, or teach the layer '
            'with register_rule.',
        ),
    ],
)
def test_where_nothing_can_leave_reasons_are_counted(convs, message):
    module = net()
    module.run = only_softmax
    with pytest.raises(PPCDError) as refused:
        mask_channels(module, IMAGES, convs=convs)
    assert str(refused.value) == message


class Wrongly(nn.Module):
    """Taught with cells of another form."""

    def forward(self, x):
        return x.abs()


@pytest.mark.parametrize(
    'rule',
    [
        lambda analysis, name, layer, x: x[:, :, 0],
        lambda analysis, name, layer, x: x[:, :3],
    ],
)
def test_a_rule_that_gives_cells_of_another_form_is_named(rule):
    register_rule(Wrongly, rule)
    with pytest.raises(
        PPCDError,
        match='The rule for "w" gave cells of shape '
        r'.* do not broadcast to its output \(2, 8, 8, 8\)',
    ):
        mask_channels(net(lambda s, y: s.b(s.w(y)), w=Wrongly()), IMAGES)


def test_alive_is_what_no_mask_has_pruned():
    channels = mask_channels(residual_net(), IMAGES, exclude=['c'])
    channels.masks['p'].pruned[[0, 5]] = True
    channels.masks['a'].pruned[[1, 6, 7]] = True
    channels.masks['d'].pruned[[2, 3]] = True

    def numbers(alive):
        return alive.nonzero().flatten().tolist()

    assert numbers(channels.alive_outputs('p')) == [1, 2, 3, 4]
    assert numbers(channels.alive_inputs('a')) == [1, 2, 3, 4]
    assert numbers(channels.alive_outputs('d')) == [0, 1]
    assert numbers(channels.alive_inputs('d')) == [0, 2, 3, 4, 5]
    # c writes the first four, a and d have both pruned the last two
    assert numbers(channels.alive_inputs('b')) == [0, 1, 2, 3, 4, 5]
    # unmasked, or read by nobody else
    assert channels.alive_outputs('c').all()
    assert channels.alive_inputs('p').all()
    assert numbers(channels.leaving_of('a')) == [6, 7]
    assert numbers(channels.leaving_of('d')) == [2, 3]


def test_kept_are_the_channels_that_stay_of_all_that_loses_some():
    channels = mask_channels(net(), IMAGES)
    channels.masks['p'].pruned[[0, 2]] = True
    p, a = [1, 3, 4, 5], [0, 2, 3, 4, 5, 6, 7]
    channels.masks['a'].pruned[1] = True
    kept = {key: value.tolist() for key, value in channels.kept().items()}
    assert kept == {
        ('p', 'outputs'): p,
        ('p.mask', 'outputs'): p,
        ('a', 'inputs'): p,
        ('a', 'outputs'): a,
        ('a.mask', 'outputs'): a,
        ('n', 'outputs'): a,
        ('b', 'inputs'): a,
    }


def test_nothing_is_kept_back_where_nothing_is_pruned():
    assert mask_channels(net(), IMAGES).kept() == {}


def test_numbers_of_atoms_are_the_same_where_channels_leave_together():
    channels = mask_channels(residual_net(), IMAGES)
    a, c, d = map(channels.atoms_of, 'acd')
    assert a == c + d and len(set(a)) == 8
    assert set(a).isdisjoint(channels.atoms_of('p'))


@pytest.fixture
def modules():
    """Convolutions that go by the name of their ConvModule."""
    module = Net(
        lambda s, x: s.last(s.second(s.first(x))),
        first=ConvModule(3, 6, 1),
        second=ConvModule(6, 5, 1),
        last=ConvModule(5, 3, 1, act_cfg=None),
    )
    return mask_channels(module, IMAGES)


def test_a_convmodule_s_convolution_goes_by_either_name(modules):
    modules.masks['second'].pruned[2] = True
    for name in ('second', 'second.conv'):
        assert modules.alive_outputs(name).tolist() == [1, 1, 0, 1, 1]
        assert modules.leaving_of(name).tolist() == [0, 0, 1, 0, 0]
        assert len(modules.atoms_of(name)) == 5
        assert modules.why_not(name) == {}
    for name in ('last', 'last.conv'):
        assert modules.alive_inputs(name).tolist() == [1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    'question',
    ['alive_inputs', 'alive_outputs', 'atoms_of', 'leaving_of', 'why_not'],
)
def test_unknown_names_are_told_what_is_close_to_them(modules, question):
    with pytest.raises(PPCDError, match='Net has no layer "secnd".*: second.'):
        getattr(modules, question)('secnd')
    with pytest.raises(PPCDError, match='"x".*there is: first, second, last'):
        getattr(modules, question)('x')


def test_layers_that_write_and_read_by_their_full_names(modules):
    assert (
        modules.writers
        == modules.readers
        == ['first.conv', 'second.conv', 'last.conv']
    )
    assert list(modules.masks) == ['first', 'second']


def test_masks_are_copied_by_name():
    """Though the other model has them in another order."""
    one = Net(
        lambda s, x: s.b(s.a(s.p(x))), p=conv(3, 6), a=conv(6, 6), b=conv(6, 3)
    )
    other = Net(one.run, b=conv(6, 3), a=conv(6, 6), p=conv(3, 6))
    other.load_state_dict(one.state_dict())
    for module in (one, other):
        mask_channels(module, IMAGES)
    one.p.mask.pruned[[0, 2]] = True
    one.a.mask.pruned[5] = True
    copy_masks(one, other)
    assert other.p.mask.pruned.tolist() == [1, 0, 1, 0, 0, 0]
    assert largest_difference(call(one, IMAGES), call(other, IMAGES)) == 0


@pytest.mark.parametrize(
    'change, what',
    [
        (
            lambda: mask_channels(residual_net(), IMAGES),
            'c has 0 entries in the one and 4 in the other, and 1 more differ',
        ),
        (
            lambda: mask_channels(net(), IMAGES, convs=['p']),
            'a has 8 entries in the one and 0 in the other. Give',
        ),
        (
            lambda: mask_channels(
                Net(
                    lambda s, x: s.b(s.a(s.p(x))),
                    p=conv(3, 5),
                    a=conv(5, 8),
                    b=conv(8, 3),
                ),
                IMAGES,
            ),
            'p has 6 entries in the one and 5 in the other. Give',
        ),
    ],
)
def test_masks_of_another_model_are_not_copied(change, what):
    one, other = mask_channels(net(), IMAGES), change()
    one.masks['a'].pruned[0] = one.masks['p'].pruned[0] = True
    with pytest.raises(PPCDError, match=what):
        copy_masks(one.module, other.module)
    assert not any(mask.pruned.any() for mask in other.masks.values())
