"""Convolutions that compute before their input is enlarged."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from conftest import (
    BIGGAN,
    CLASSES,
    NOISE,
    SAGAN,
    build_generator,
    every_class,
    prune,
)
from mmagic.models.editors.sagan.sagan_modules import SNGANGenResBlock
from test_memory_layout import DENSE, pruned

from ppcd_mmagic.channels import (
    as_written,
    complexity,
    discard_channels,
    fold_computed_weights,
    mask_channels,
    without_masks,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.export import merge_upsampling_nodes, program_of
from ppcd_mmagic.generators import FeatureTap, example_inputs
from ppcd_mmagic.models import (
    PPResSNGANGenResBlock,
    UpsamplingConv2d,
    merge_upsampling,
    merged_kernel,
)

DENSE_BIGGAN = dict(BIGGAN, type='BigGANGenerator')


def plain(config):
    """A generator without what computes its weights."""
    generator = build_generator(config)
    fold_computed_weights(generator)
    return generator


def enlarged_first(conv, x):
    """In float64, by torch's own functions."""
    return F.conv2d(
        F.interpolate(x.double(), scale_factor=2),
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        padding=conv.padding,
    )


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize(
    'shape', [(1, 5, 1, 1), (2, 5, 3, 7), (1, 5, 32, 8), (16, 5, 9, 16)]
)
def test_it_computes_what_it_says(shape, size, bias):
    """Where it merges, and where maps are too small for that to pay."""
    conv = UpsamplingConv2d(5, 4, size, padding=size // 2, bias=bias)
    x = torch.randn(shape)
    expected = enlarged_first(conv, x)
    n, _, height, width = shape
    assert conv(x).shape == (n, 4, 2 * height, 2 * width)
    torch.testing.assert_close(conv(x).double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        conv.double()(x.double()), expected, rtol=0, atol=1e-12
    )


def operators(function):
    """What torch executed, and how often."""
    with torch.profiler.profile() as profile:
        function()
    return Counter({event.key: event.count for event in profile.key_averages()})


@torch.no_grad()
def test_it_merges_where_that_is_faster():
    conv = UpsamplingConv2d(4, 4, 3, padding=1)
    large, small = torch.randn(2, 4, 8, 8), torch.randn(1, 4, 4, 4)
    assert operators(lambda: conv(large))['aten::conv_transpose2d'] == 1
    assert operators(lambda: conv(large))['aten::upsample_nearest2d'] == 0
    assert operators(lambda: conv(small))['aten::conv_transpose2d'] == 0
    with as_written(conv):
        assert operators(lambda: conv(large))['aten::conv_transpose2d'] == 0
    assert operators(lambda: conv(large))['aten::conv_transpose2d'] == 1


@pytest.mark.parametrize('size', [1, 3])
def test_it_learns_as_it_says(size):
    conv = UpsamplingConv2d(5, 4, size, padding=size // 2)
    x = torch.randn(3, 5, 8, 8, requires_grad=True)
    wanted = (x, conv.weight, conv.bias)
    factors = torch.randn(3, 4, 16, 16)
    given = torch.autograd.grad((conv(x) * factors).sum(), wanted)
    expected = torch.autograd.grad(
        (enlarged_first(conv, x) * factors).sum(), wanted
    )
    for one, other in zip(given, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=5, padding=2),
        dict(kernel_size=3),
        dict(kernel_size=1, padding=1),
        dict(kernel_size=3, padding=1, stride=2),
        dict(kernel_size=3, padding=1, dilation=2),
        dict(kernel_size=3, padding=1, groups=2),
        dict(kernel_size=3, padding=1, padding_mode='reflect'),
        dict(kernel_size=3, padding='same'),
    ],
)
def test_other_kinds_are_refused(options):
    with pytest.raises(PPCDError, match='1 x 1 without padding or 3 x 3 with'):
        UpsamplingConv2d(4, 4, **options)


def test_it_follows_its_weights():
    """Whatever changed them: nothing is kept of the old ones."""
    conv = UpsamplingConv2d(4, 4, 3, padding=1).eval()
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        before = conv(x)
        conv.weight.data.mul_(2)
        conv.bias.data.mul_(2)
        torch.testing.assert_close(conv(x), 2 * before)


def test_in_half_precision():
    conv = UpsamplingConv2d(8, 4, 3, padding=1)
    x = torch.randn(4, 8, 16, 16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        image = conv(x)
    assert image.dtype == torch.bfloat16
    torch.testing.assert_close(
        image.double(), enlarged_first(conv, x), rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize('size', [1, 2, 8])
def test_the_kernel_sums_the_weights_that_meet_a_pixel(size):
    """What a single pixel of the map spreads to is the kernel itself."""
    weight = torch.randn(3, 1, 3, 3)
    x = torch.zeros(1, 1, size + 2, size + 2)
    x[..., 1, 1] = 1
    spread = F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)
    torch.testing.assert_close(spread[0, :, 1:5, 1:5], merged_kernel(weight)[0])


@pytest.mark.parametrize('config', [DENSE, DENSE_BIGGAN])
@torch.no_grad()
def test_a_generator_keeps_its_image_and_its_weights(config):
    generator = plain(config)
    merged = copy.deepcopy(generator)
    merge_upsampling(merged)
    noise, labels = every_class(6)
    expected = generator(noise, label=labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(
        merged(noise, label=labels), expected, rtol=0, atol=1e-5
    )
    assert set(merged.state_dict()) == set(generator.state_dict())
    assert count(merged) == 4
    counted = operators(lambda: merged(noise, label=labels))
    assert counted['aten::conv_transpose2d'] == 2


def count(generator):
    return sum(isinstance(m, UpsamplingConv2d) for m in generator.modules())


def of_bilinear(block):
    block.upsample.mode = 'bilinear'


def of_three(block):
    block.upsample.scale_factor = 3


def of_a_stride(block):
    block.conv_1.conv.stride = (2, 2)


def of_a_hook(block):
    block.conv_1.conv.register_forward_hook(lambda *args: None)


def of_another_padding(block):
    block.conv_1.conv.padding_mode = 'reflect'


def of_another_shortcut(block):
    block.shortcut.conv = nn.Conv2d(8, 8, 5, padding=2)


@pytest.mark.parametrize(
    'change',
    [
        of_bilinear,
        of_three,
        of_a_stride,
        of_a_hook,
        of_another_padding,
        of_another_shortcut,
    ],
)
def test_a_block_with_other_layers_stays(change):
    generator = plain(DENSE)
    change(generator.conv_blocks[0])
    merge_upsampling(generator)
    assert count(generator) == 2
    assert type(generator.conv_blocks[0].upsample) is nn.Upsample


@pytest.mark.parametrize(
    'config', [dict(SAGAN, with_spectral_norm=False), SAGAN, BIGGAN]
)
def test_masked_blocks_and_spectral_norm_stay(config):
    generator = build_generator(config)
    merge_upsampling(generator)
    assert count(generator) == 0


def test_the_output_of_what_enlarged_is_not_to_be_had():
    generator = plain(DENSE)
    merge_upsampling(generator)
    with pytest.raises(PPCDError, match='Ask for the output of one of them'):
        with FeatureTap(generator, 'conv_blocks.0.upsample'):
            pass


@pytest.mark.parametrize('config', [DENSE, DENSE_BIGGAN])
def test_multiply_adds_are_those_of_the_layers(config):
    generator = plain(config)
    inputs = example_inputs(generator, batch=1)
    expected = complexity(generator, inputs)
    merge_upsampling(generator)
    assert complexity(generator, inputs) == expected


def test_computing_as_written_ends_with_an_error_too():
    conv = UpsamplingConv2d(4, 4, 3, padding=1)
    with pytest.raises(ValueError):
        with as_written(conv):
            assert conv.as_written
            raise ValueError
    assert not conv.as_written


@torch.no_grad()
def test_an_exported_generator_is_pruned_once_more():
    exported = pruned(DENSE)
    assert count(exported) == 4
    noise, labels = every_class(4)
    inputs = example_inputs(exported)
    channels = mask_channels(exported, inputs, ['*.conv_1'])
    before = complexity(exported, inputs)
    assert len(channels.masks) == 2
    prune(exported, 0.5)
    expected = exported(noise, label=labels)
    smaller = discard_channels(exported, inputs)
    torch.testing.assert_close(
        smaller(noise, label=labels), expected, rtol=0, atol=1e-5
    )
    after = complexity(smaller, inputs)
    assert all(after[key] < 0.8 * before[key] for key in after)


class Doubling(SNGANGenResBlock):
    """With a forward of its own."""

    def forward(self, x, y=None):
        return 2 * super().forward(x, y)


class Shifted(SNGANGenResBlock):
    def forward_shortcut(self, x):
        return self.shortcut(self.upsample(x) + 1)


@pytest.mark.parametrize(
    'kind, merged',
    [
        (SNGANGenResBlock, 2),
        (PPResSNGANGenResBlock, 2),
        (Doubling, 0),
        (Shifted, 0),
    ],
)
def test_blocks_that_compute_otherwise_stay(kind, merged):
    with without_masks():
        block = kind(4, 8, num_classes=CLASSES)
    block = nn.Sequential(block)
    merge_upsampling(block)
    assert count(block) == merged


class Toy(nn.Module):
    """Two convolutions, and whatever else, of one enlarged map."""

    def __init__(self, enlarge, *convs):
        super().__init__()
        self.enlarge = enlarge
        self.convs = nn.ModuleList(convs)

    def forward(self, x):
        enlarged = self.enlarge(x)
        return [conv(enlarged) for conv in self.convs]


def nearest():
    return nn.Upsample(scale_factor=2)


def conv(size=3, **options):
    return nn.Conv2d(4, 4, size, **{'padding': size // 2, **options})


@pytest.mark.needs_torch('2.5')
@pytest.mark.parametrize(
    'net, merged',
    [
        (Toy(nearest(), conv()), 1),
        (Toy(nearest(), conv(1)), 1),
        (Toy(nearest(), conv(bias=False), conv(1, bias=False)), 2),
        # what else reads the map gets it enlarged
        (Toy(nearest(), conv(), nn.ReLU()), 1),
        (Toy(nearest(), nn.Sequential(conv(), nearest(), conv(1))), 2),
        (Toy(nn.Upsample(size=(12, 16)), conv()), 0),
        (Toy(nn.Upsample(scale_factor=3), conv()), 0),
        (Toy(nn.Upsample(scale_factor=(2, 1)), conv()), 0),
        (Toy(nn.Upsample(scale_factor=2, mode='bilinear'), conv()), 0),
        (Toy(nearest(), conv(padding=0)), 0),
        (Toy(nearest(), conv(1, padding=1)), 0),
        (Toy(nearest(), conv(5)), 0),
        (Toy(nearest(), conv(stride=2)), 0),
        (Toy(nearest(), conv(dilation=2)), 0),
        (Toy(nearest(), conv(groups=2)), 0),
        (Toy(nearest(), conv(padding_mode='reflect')), 0),
        (Toy(nearest(), nn.ConvTranspose2d(4, 4, 3, padding=1)), 0),
    ],
)
@torch.no_grad()
def test_graphs_compute_what_they_did(net, merged):
    x = torch.randn(2, 4, 6, 8)
    graph = torch.export.export(net.eval(), (x,)).module()
    expected = net(x)
    assert merge_upsampling_nodes(graph) == merged
    for one, other in zip(graph(x), expected):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    enlarged = sum(
        node.target is torch.ops.aten.conv_transpose2d.input
        for node in graph.graph.nodes
    )
    assert enlarged <= merged + 1


@pytest.mark.needs_torch('2.5')
@torch.no_grad()
def test_a_convolution_with_weights_of_an_input_stays():
    class Given(nn.Module):
        def forward(self, x, weight):
            return F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)

    x, weight = torch.randn(2, 4, 6, 8), torch.randn(4, 4, 3, 3)
    graph = torch.export.export(Given(), (x, weight)).module()
    assert merge_upsampling_nodes(graph) == 0


@pytest.mark.needs_torch('2.6')
@torch.no_grad()
def test_graphs_of_an_export_are_merged_on_demand():
    exported = pruned(DENSE)

    def transposed(**options):
        graph = program_of(exported, **options).module()
        noise = torch.randn(5, NOISE)
        label = torch.arange(5)
        torch.testing.assert_close(
            graph(noise=noise, label=label),
            exported(noise, label=label),
            rtol=0,
            atol=1e-5,
        )
        return sum(
            node.target is torch.ops.aten.conv_transpose2d.input
            for node in graph.graph.nodes
        )

    def kernels(**options):
        state = program_of(exported, **options).state_dict
        return sum(value.numel() for value in state.values() if value.ndim == 4)

    # no weight is written that nothing reads
    channels = [
        conv.in_channels * conv.out_channels
        for conv in exported.modules()
        if isinstance(conv, UpsamplingConv2d) and conv.kernel_size == (3, 3)
    ]
    assert kernels(merged=True) == kernels() + (16 - 9) * sum(channels)
    assert transposed() == transposed(folded=True) == 0
    assert transposed(merged=True) == transposed(folded=True, merged=True) == 2
