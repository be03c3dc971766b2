"""Norms of a graph that go into what is beside them, and those that stay."""

import collections

import pytest
import torch
import torch.nn as nn
from conftest import TEACHER
from mmengine.config import Config
from test_memory_layout import DENSE, pruned

from ppcd_mmagic.export import (
    call_by_name,
    export_student,
    file_inputs,
    fold_norms,
    program_of,
)

# of formats that older ones cannot write
pytestmark = pytest.mark.needs_torch('2.6')


def norms_in(graph):
    return sum(
        node.target is torch.ops.aten.batch_norm.default
        for node in graph.graph.nodes
    )


@pytest.fixture(params=['trained', 'sagan', 'biggan'])
def generator(request):
    if request.param != 'trained':
        return pruned(dict(sagan=DENSE, biggan=TEACHER)[request.param])
    trained = request.getfixturevalue('trained_student')
    return export_student(
        Config.fromfile(trained.config), trained.checkpoint
    ).generator


@torch.no_grad()
def test_a_generator_without_norms_draws_the_same(generator):
    """Four conditional norms and the one of the output."""
    whole, folded = program_of(generator), program_of(generator, folded=True)
    assert norms_in(whole) == 5 and norms_in(folded) == 0
    torch.manual_seed(2)
    for count in (1, 20):
        inputs = file_inputs(generator, count)
        inputs['noise'] = torch.randn_like(inputs['noise'])
        expected = call_by_name(generator, inputs)
        image = folded.module()(**inputs)
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)
        assert expected.std() > 0.1
    inputs['label'][3] = generator.num_classes
    with pytest.raises(RuntimeError, match='label out of range'):
        folded.module()(**inputs)


def settled(net):
    """Norms with statistics and weights as after some training."""
    torch.manual_seed(0)
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if layer.running_mean is not None:
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.2, 3)
            if layer.affine:
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)
    return net.eval()


def graph_of(net, *inputs):
    return torch.export.export(net, inputs, strict=False).module()


@pytest.mark.parametrize(
    'net, shape',
    [
        (
            nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
            (2, 3, 7, 7),
        ),
        (
            nn.Sequential(
                nn.Conv2d(6, 6, 3, padding='same', groups=3),
                nn.BatchNorm2d(6, affine=False),
            ),
            (2, 6, 5, 5),
        ),
        (
            nn.Sequential(
                nn.ConvTranspose2d(3, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
            ),
            (2, 3, 5, 5),
        ),
        (nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6)), (2, 3, 9)),
        (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), (2, 4)),
    ],
    ids=['plain', 'in groups', 'transposed', 'of lines', 'linear'],
)
@torch.no_grad()
def test_a_norm_goes_into_the_layer_before_it(net, shape):
    image = torch.randn(shape)
    expected = settled(net)(image)
    graph = graph_of(net, image)
    assert fold_norms(graph) == 1 and norms_in(graph) == 0
    torch.testing.assert_close(graph(image), expected, rtol=0, atol=1e-5)


class Reader(nn.Module):
    """A norm behind what a test gives."""

    def __init__(self, before):
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.table = nn.Embedding(4, 4)
        self.net = before

    def forward(self, x):
        return self.net(self, x)


LABELS = torch.tensor([3, 1])


def gain(self):
    return self.table(LABELS)[..., None, None]


STAYING = dict(
    the_layer_is_read_by_others=lambda self, x: self.norm(y := self.one(x)) + y,
    the_sum_is_read_by_others=lambda self, x: (
        self.norm(y := self.one(x) + self.two(x)) + y
    ),
    a_summand_is_read_by_others=lambda self, x: (
        self.norm((y := self.one(x)) + self.two(x)) + y
    ),
    a_summand_is_no_layer=lambda self, x: self.norm(self.one(x) + x),
    a_layer_is_added_to_itself=lambda self, x: self.norm(
        (y := self.one(x)) + y
    ),
    it_is_behind_an_activation=lambda self, x: self.norm(self.one(x).relu()),
    a_summand_is_weighted=lambda self, x: self.norm(
        torch.add(self.one(x), self.two(x), alpha=2)
    ),
    a_summand_is_broadcast=lambda self, x: self.norm(
        self.one(x) + self.two(x[:, :, :1, :1])
    ),
    a_layer_has_no_batch=lambda self, x: nn.functional.batch_norm(
        self.one(x[0]), self.norm.running_mean, self.norm.running_var
    ),
    a_gain_depends_on_the_image=lambda self, x: (
        self.norm(x) * x.mean((2, 3), keepdim=True) + gain(self)
    ),
    gain_and_bias_have_other_labels=lambda self, x: (
        self.norm(x) * gain(self) + self.table(LABELS + 0)[..., None, None]
    ),
    a_gain_is_turned=lambda self, x: (
        self.norm(x[..., :1, :1])
        * self.table(torch.arange(4)).T[:2, :, None, None]
        + gain(self)
    ),
    there_is_no_bias=lambda self, x: self.norm(x) * gain(self),
    it_is_read_twice=lambda self, x: (
        (y := self.norm(x)) * gain(self) + gain(self) + y
    ),
    it_scales_itself=lambda self, x: (y := self.norm(x)) * y + gain(self),
)


@pytest.mark.parametrize('name', STAYING)
@torch.no_grad()
def test_a_norm_stays_where(name):
    net, image = settled(Reader(STAYING[name])), torch.randn(2, 4, 4, 4)
    expected = net(image)
    graph = graph_of(net, image)
    assert fold_norms(graph) == 0 and norms_in(graph) == 1
    torch.testing.assert_close(graph(image), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_norm_that_takes_statistics_of_its_batch_stays():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)
    )
    image = torch.randn(2, 3, 5, 5)
    expected = settled(net)(image)
    graph = graph_of(net, image)
    assert fold_norms(graph) == 0
    torch.testing.assert_close(graph(image), expected, rtol=0, atol=1e-6)


def test_weights_that_others_read_stay_as_they_are():
    """One convolution, behind which a norm stands once."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(self.conv(x)).relu())

    net, image = settled(Twice()), torch.randn(2, 3, 4, 4)
    graph = graph_of(net, image)
    assert fold_norms(graph) == 1
    torch.testing.assert_close(graph(image), net(image), rtol=0, atol=1e-5)


def test_where_folding_would_change_an_image_norms_stay():
    """A mean far from zero of a channel that hardly varies: the difference
    of two large numbers."""
    generator = pruned(DENSE)
    norm = generator.conv_blocks[0].norm_2.norm
    with torch.no_grad():
        norm.running_mean.fill_(1e3)
        norm.running_var.fill_(1e-8)
        generator.conv_blocks[0].conv_1.conv.bias.add_(1e3)
    assert collections.Counter(
        norms_in(program_of(generator, folded=f)) for f in (False, True)
    ) == {5: 2}
