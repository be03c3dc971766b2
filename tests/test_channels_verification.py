"""What an export is compared with, and what is refused."""

import copy
import math

import pytest
import torch
import torch.nn as nn
from channel_checks import Net, as_trained, conv, net, prune_some

from ppcd_mmagic.channels import (
    ExportMismatch,
    discard_channels,
    largest_difference,
    mask_channels,
    named_masks,
    outputs_of,
    register_rule,
    rehearse,
    same,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
NAN, INF = float('nan'), float('inf')


def tensors(*values):
    return [torch.tensor(value) for value in values]


@pytest.mark.parametrize(
    'expected, found, difference',
    [
        (tensors([1.0, 2.0]), tensors([1.0, 2.0]), 0),
        (tensors([1.0, 2.0]), tensors([1.0, 2.5]), 0.5),
        (tensors([1.0, 2.0]), tensors([1.75, 2.0]), 0.75),  # of either sign
        (
            tensors([1.0], [5.0]),
            tensors([3.0], [4.0]),
            2,
        ),  # the worst of several
        (tensors([5.0], [1.0]), tensors([4.0], [3.0]), 2),
        (tensors([], [1.0]), tensors([], [2.0]), 1),
        (tensors([1, 7]), tensors([1, 4]), 3),
        ([], [], 0),
        (tensors([1.0, INF]), tensors([1.0, 2.0]), INF),
        (tensors([1.0]), tensors([1.0], [2.0]), INF),  # one more
        (tensors([1.0], [2.0]), tensors([1.0]), INF),
        (tensors([1.0, 1.0]), tensors([1.0]), INF),  # of another shape
    ],
)
def test_largest_difference_by_hand(expected, found, difference):
    assert largest_difference(expected, found) == difference


@pytest.mark.parametrize(
    'expected, found',
    [
        (tensors([NAN], [1.0]), tensors([1.0], [1.0])),
        (tensors([1.0], [1.0]), tensors([1.0], [NAN])),
        (
            tensors([NAN], [1.0]),
            tensors([1.0], [9.0]),
        ),  # nor may others hide it
        (tensors([9.0], [1.0]), tensors([1.0], [NAN])),
        (tensors([INF]), tensors([INF])),
    ],
)
def test_what_is_not_a_number_is_no_small_difference(expected, found):
    assert math.isnan(largest_difference(expected, found))


def test_differences_are_found_in_double_precision():
    """In single precision both are the same."""
    one = torch.tensor([2.0**24])
    assert largest_difference([one.double() + 1], [one]) == 1
    assert largest_difference([one], [one.double() + 1]) == 1
    half = torch.tensor([1.0]).half()
    assert largest_difference([half], [half.double() + 1e-4]) == (
        pytest.approx(1e-4)
    )


class Noisy(nn.Module):
    """Random numbers, the mode, and the state of its inputs."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, x, more=None):
        x += 1
        if more is not None:
            more['seen'] += 1
        return dict(
            first=x,
            rest=(
                torch.randn(3),
                None,
                'text',
                self.inner(x),
                torch.tensor(self.training),
            ),
        )


def test_outputs_are_all_tensors_in_evaluation_with_the_numbers_of_one_seed():
    module = Noisy().train()
    module.frozen.eval()
    x, more = torch.ones(100), dict(seen=torch.zeros(()))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (
        outputs_of(module, (x, dict(more=more))),
        outputs_of(module, dict(x=x, more=more)),
    )
    assert len(first) == 4
    for a, b in zip(first, second):
        assert torch.equal(a, b)
    assert torch.equal(first[0], first[2]) and not first[3]
    torch.manual_seed(0)
    assert torch.equal(first[1], torch.randn(3))
    # and nothing is left behind
    torch.manual_seed(5)
    assert torch.equal(before, torch.get_rng_state())
    assert (x == 1).all() and more['seen'] == 0
    assert module.training and module.inner.training
    assert not module.frozen.training


def test_outputs_of_hugging_face_are_what_their_tuple_holds():

    class Output:
        def to_tuple(self):
            return torch.ones(2), None

    assert len(outputs_of(Net(lambda s, x: Output()), IMAGES)) == 1


def test_the_mode_comes_back_where_inputs_do_not_fit():
    module = net().train()
    with pytest.raises(RuntimeError):
        outputs_of(module, torch.zeros(1, 4, 8, 8))
    assert module.training and module.b.training


class Reversed(nn.Module):
    """Taught wrongly: channels change their places."""

    def forward(self, x):
        return x.flip(1)


register_rule(Reversed, same)


def wrongly_taught():
    module = net(lambda s, y: s.b(s.r(y)), r=Reversed())
    mask_channels(module, IMAGES)
    module.a.mask.pruned[[0, 1]] = True
    return module


def test_what_differs_is_not_returned():
    module = wrongly_taught()
    with pytest.raises(
        ExportMismatch,
        match=r'Net differs by [0-9.]+ '
        r'\(allowed: 1e-05\) on the example inputs',
    ):
        discard_channels(module, IMAGES)
    assert len(dict(named_masks(module))) == 2


PATHS = dict(
    value=lambda s, x, k: x.mean() > 0,
    label=lambda s, x, k: int(k[0]) % 2,
    size=lambda s, x, k: x.shape[2] > 8,
    smaller_size=lambda s, x, k: x.shape[3] < 8,
    batch=lambda s, x, k: x.shape[0] > 2,
    one_image=lambda s, x, k: x.shape[0] == 1,
    random=lambda s, x, k: torch.rand(()) > 0.5,
    training=lambda s, x, k: s.training,
)


def of_two_paths(takes_other):
    """The other path takes channels in another order."""

    def run(s, x, k):
        y = s.n(s.a(x)).relu()
        return s.b(y.flip(1) if takes_other(s, x, k) else y)

    layers = dict(a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 3))
    torch.manual_seed(0)
    module = as_trained(Net(run, **layers))
    inputs = -IMAGES.abs(), torch.tensor([0, 0])
    mask_channels(module, inputs)
    return module, inputs


@pytest.mark.parametrize('path', PATHS)
def test_a_path_that_the_example_inputs_do_not_take_is_compared(path):
    module, inputs = of_two_paths(PATHS[path])
    with pytest.raises(ExportMismatch):
        rehearse(module, inputs)
    prune_some(module)
    with pytest.raises(ExportMismatch):
        shrink_channels(module, inputs)
    if path != 'training':  # an export is not trained
        with pytest.raises(ExportMismatch):
            discard_channels(module, inputs)
    assert module.a.out_channels == 8


def test_what_other_inputs_do_not_disturb_is_cut():
    module, inputs = of_two_paths(lambda s, x, k: False)
    rehearse(module, inputs)
    prune_some(module)
    assert discard_channels(module, inputs).a.out_channels == 4
    shrink_channels(module, inputs)
    assert module.a.out_channels == 4


def of_class_heads(runs_on):
    def run(s, x, k):
        assert runs_on(x), 'an input that this network does not take'
        y = s.a(x).relu()
        return torch.cat([s.h[int(c)](y[i : i + 1]) for i, c in enumerate(k)])

    heads = nn.ModuleList([conv(8, 3) for _ in range(3)])
    module = as_trained(Net(run, a=conv(3, 8), h=heads))
    inputs = IMAGES, torch.tensor([0, 0])
    mask_channels(module, inputs)
    return module, inputs


def test_a_layer_of_another_class_is_found_and_the_class_named():
    module, inputs = of_class_heads(lambda x: True)
    with pytest.raises(PPCDError, match='does not run .* on class 1'):
        rehearse(module, inputs)


def test_inputs_that_the_whole_network_does_not_take_tell_nothing():
    known = IMAGES.tolist()
    module, inputs = of_class_heads(lambda x: x.tolist() == known)
    rehearse(module, inputs)
    prune_some(module)
    assert discard_channels(module, inputs).a.out_channels == 4


def test_how_much_may_differ_is_for_the_user_to_say():
    module = wrongly_taught()
    (expected,) = outputs_of(module, IMAGES)
    smaller = discard_channels(module, IMAGES, tolerance=INF)
    (found,) = outputs_of(smaller, IMAGES)
    assert smaller.a.out_channels == 6
    difference = float((expected - found).abs().max())
    assert difference > 1e-2 and expected.abs().max() < 100
    # a fraction of the largest value, where that is above 1
    allowed = difference / max(1, float(expected.abs().max()))
    discard_channels(module, IMAGES, tolerance=1.01 * allowed)
    with pytest.raises(ExportMismatch):
        discard_channels(module, IMAGES, tolerance=0.99 * allowed)


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_small_outputs_differ_absolutely_and_large_ones_by_a_fraction(factor):
    module = wrongly_taught()
    plain = module.run
    module.run = lambda s, x: -plain(s, x).abs() * factor
    (expected,) = outputs_of(module, IMAGES)
    (found,) = outputs_of(
        discard_channels(module, IMAGES, tolerance=INF), IMAGES
    )
    largest = float(expected.abs().max())
    difference = float((expected - found).abs().max())
    allowed = difference / largest if factor > 1 else difference
    assert largest < 0.1 or largest > 10
    # of other inputs somewhat more
    discard_channels(module, IMAGES, tolerance=3 * allowed)
    with pytest.raises(ExportMismatch):
        discard_channels(module, IMAGES, tolerance=0.99 * allowed)


def test_outputs_that_are_not_finite_are_not_returned():
    module = net(lambda s, y: s.b(y).log())
    mask_channels(module, IMAGES)
    prune_some(module)
    with pytest.raises(PPCDError, match='computes nan or inf'):
        discard_channels(module, IMAGES)


def sensitive(cast=lambda x: x):
    """What rounds otherwise gets another sine; 64 channels and half of them
    are added up in another order."""
    torch.manual_seed(0)
    module = Net(
        lambda s, x: (1e5 * s.b(s.a(cast(x)))).sin(),
        a=conv(3, 64),
        b=conv(64, 3),
    )
    mask_channels(module, IMAGES)
    prune_some(module)
    return module


def test_what_only_rounds_otherwise_is_compared_in_double_precision():
    module = sensitive()
    (expected,) = outputs_of(module, IMAGES)
    smaller = discard_channels(module, IMAGES)
    (found,) = outputs_of(smaller, IMAGES)
    assert (expected - found).abs().max() > 1e-3, 'nothing was tried'
    assert found.dtype == torch.float32


def test_a_network_that_makes_single_precision_itself_is_not_excused():
    with pytest.raises(ExportMismatch):
        discard_channels(sensitive(lambda x: x.float()), IMAGES)


def test_a_module_without_masks_has_nothing_to_discard():
    with pytest.raises(PPCDError, match='Net has no masks.*mask_channels'):
        discard_channels(net(), IMAGES)


def test_the_masked_module_stays_as_it_is_and_the_other_is_for_use():
    module = net().train()
    mask_channels(module, IMAGES)
    prune_some(module)
    module.a.weight.grad = torch.ones_like(module.a.weight)
    before = copy.deepcopy(module.state_dict())
    smaller = discard_channels(module, IMAGES)
    assert all(child.training for child in (module, module.a, module.n))
    assert not any(child.training for child in smaller.modules())
    # some of its layers are new, some are copies
    assert not any(p.requires_grad for p in smaller.parameters())
    assert all(p.requires_grad for p in module.parameters())
    assert all(
        torch.equal(value, before[name])
        for name, value in module.state_dict().items()
    )
    assert not dict(named_masks(smaller))
    assert all(
        not child._forward_hooks and not child._forward_pre_hooks
        for child in smaller.modules()
    )


def test_nothing_is_printed_and_nothing_set_for_other_programs(capfd):
    """NNI reports every node, and makes layers of the default type."""
    module = net().double()
    images = IMAGES.double()
    mask_channels(module, images)
    prune_some(module)
    smaller = discard_channels(module, images)
    assert {p.dtype for p in smaller.parameters()} == {torch.float64}
    assert torch.get_default_dtype() == torch.float32
    out, err = capfd.readouterr()
    assert out == err == ''


def test_layers_with_two_names_stay_one_layer():
    module = net(lambda s, y: s.b(s.c(y)), c=conv(8, 8))
    module.other = nn.ModuleDict(dict(name=module.a))
    mask_channels(module, IMAGES, convs=['p', 'a'])
    prune_some(module)
    smaller = discard_channels(module, IMAGES)
    assert smaller.other['name'] is smaller.a
    assert smaller.a.out_channels == 4


class Scaled(nn.Module):
    """A parameter of its own for each channel, deep inside."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        return x * self.gain


def test_parameters_deep_inside_lose_the_same_channels():
    module = net(
        lambda s, y: s.b(s.inner.scaled(y)),
        inner=nn.ModuleDict(dict(scaled=Scaled())),
    )
    mask_channels(module, IMAGES)
    module.a.mask.pruned[[0, 3]] = True
    smaller = discard_channels(module, IMAGES)
    assert torch.equal(
        smaller.inner.scaled.gain, module.inner.scaled.gain[[1, 2, 4, 5, 6, 7]]
    )


class Counting(nn.Module):
    """State of every kind, which the next image would follow."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.zeros(()))
        self.calls, self.seen, self.hidden = 0, [], None
        self.table = dict(tensor=torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.mean += x.mean()
        self.table['tensor'] += 1
        self.table['other'] = x
        self.hidden = x if self.hidden is None else x + self.hidden
        self.new = x
        return x + self.mean + self.calls + len(self.seen) + self.hidden


def test_a_module_that_counts_stays_as_it_is():
    counting = Counting()
    first = outputs_of(counting, IMAGES)
    assert largest_difference(first, outputs_of(counting, IMAGES)) == 0
    assert counting.calls == counting.mean == counting.table['tensor'] == 0
    assert counting.seen == [] and counting.hidden is None
    assert list(counting.table) == ['tensor'] and not hasattr(counting, 'new')


def count(s, y):
    s.t += 1
    return s.b(y) + s.t


def test_what_counts_is_no_difference():
    module = net(count, t=torch.zeros(()))
    mask_channels(module, IMAGES)
    rehearse(module, IMAGES)
    prune_some(module)
    smaller = discard_channels(module, IMAGES)
    shrink_channels(module, IMAGES)
    assert smaller.a.out_channels == module.a.out_channels == 4
    assert smaller.t == module.t == 0


def expanded():
    return torch.rand(1, 1, 8, 1).expand(1, 1, 8, 8)


def cached(s, y):
    if not hasattr(s, 'k'):
        s.k = expanded()
    return s.b(y * s.k)


def with_attribute():
    module = net(lambda s, y: s.b(y * s.k))
    module.k = expanded()
    return module


@pytest.mark.parametrize(
    'build',
    [
        lambda: net(lambda s, y: s.b(y * s.k), k=expanded()),
        lambda: net(
            lambda s, y: s.b(y * s.k), k=torch.rand(1).expand(1, 8, 1, 1)
        ),
        lambda: net(
            lambda s, y: s.b(y + s.k), k=torch.rand(15).unfold(0, 8, 1)
        ),
        with_attribute,
        lambda: net(cached),
    ],
    ids=[
        'buffer',
        'a gain for each channel',
        'unfolded',
        'attribute',
        'cached',
    ],
)
def test_tensors_that_share_elements_with_themselves_are_exported(build):
    module = build()
    mask_channels(module, IMAGES)
    rehearse(module, IMAGES)
    prune_some(module)
    assert discard_channels(module, IMAGES).a.out_channels == 4


def test_inputs_of_a_graph_are_compared_like_any():
    """Such as what an encoder made of pictures."""
    module = net(lambda s, y: s.b(y))
    mask_channels(module, IMAGES)
    images = IMAGES * torch.ones(1, requires_grad=True)
    (expected,), (found,) = (outputs_of(module, x) for x in (IMAGES, images))
    assert torch.equal(expected, found)
    prune_some(module)
    assert discard_channels(module, images).a.out_channels < 8
