"""The layout of an exported generator's weights, wherever it goes."""

import copy

import pytest
import torch
import torch.nn as nn
from conftest import SAGAN, TEACHER, build_generator, every_class
from mmagic.apis import init_model
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from torch._subclasses.fake_tensor import FakeTensorMode

from ppcd_mmagic.channels import fold_computed_weights
from ppcd_mmagic.export import build_student, export_student, save_export
from ppcd_mmagic.models import LayoutFollower, fast_layout
from ppcd_mmagic.registry import MODELS

DENSE = dict(SAGAN, type='SAGANGenerator')


def pruned(config=DENSE):
    dense = build_generator(config)
    fold_computed_weights(dense)
    generator = MODELS.build(
        dict(type='PrunedGenerator', generator=config, layer_sizes={})
    )
    generator.load_state_dict(dense.state_dict())
    return generator.eval()


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


def lies_by_rows_of_channels(model):
    """Whether the channels of every kernel lie side by side; of kernels of
    one pixel, too, whose strides say how to read them."""
    strides = [conv.weight.stride() for conv in convolutions(model)]
    assert len(strides) > 6
    return all(stride[1] == 1 for stride in strides) and all(
        conv.weight.stride(3) == conv.weight.shape[1]
        for conv in convolutions(model)
    )


def lies_as_torch_makes_it(model):
    return all(conv.weight.is_contiguous() for conv in convolutions(model))


@pytest.mark.parametrize('config', [DENSE, TEACHER], ids=['sagan', 'biggan'])
@torch.no_grad()
def test_images_are_those_of_the_usual_layout(config):
    generator = pruned(config)
    usual = copy.deepcopy(generator)
    for conv in convolutions(usual):
        conv.weight.data = conv.weight.data.clone(
            memory_format=torch.contiguous_format
        )
    assert lies_by_rows_of_channels(generator)
    noise, labels = every_class(2)
    image, expected = (g(noise, label=labels) for g in (generator, usual))
    assert not lies_by_rows_of_channels(usual), 'a choice by hand stays'
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)
    assert image.std() > 0.1
    assert image.is_contiguous(), 'it can be viewed as before'


@torch.no_grad()
def test_a_trained_student_has_it_after_init_model(trained_student, tmp_path):
    config = Config.fromfile(trained_student.config)
    save_export(
        export_student(config, trained_student.checkpoint),
        str(tmp_path / 'export'),
        ['mmagic', 'safetensors'],
    )
    student = build_student(config, trained_student.checkpoint)
    noise, labels = torch.randn(20, 24), torch.arange(10).repeat(2)
    for weights in ('generator.pth', 'generator.safetensors'):
        generator = init_model(
            str(tmp_path / 'export' / 'config.py'),
            str(tmp_path / 'export' / weights),
            device='cpu',
        ).generator
        assert lies_by_rows_of_channels(generator)
        torch.testing.assert_close(
            generator(noise, label=labels),
            student(noise, label=labels),
            rtol=0,
            atol=1e-5,
        )


def copied(generator):
    return copy.deepcopy(generator)


def averaged(generator):
    return ExponentialMovingAverage(generator).module


def moved(generator):
    return generator.to('meta').to_empty(device='cpu').to(torch.bfloat16)


def loaded(generator):
    generator.load_state_dict(copy.deepcopy(generator.state_dict()))
    return generator


def exchanged(generator):
    """By tensors that lie in the other way."""
    state = {
        name: torch.empty(value.shape, dtype=value.dtype).copy_(value)
        for name, value in generator.state_dict().items()
    }
    generator.load_state_dict(state, assign=True)
    return generator


def narrowed(generator):
    """To weights of which a block is narrower inside."""
    other = MODELS.build(
        dict(
            type='PrunedGenerator',
            generator=DENSE,
            layer_sizes={},
            narrow_to_weights=True,
        )
    )
    state, block = generator.state_dict(), 'conv_blocks.0'
    for name, dim in {
        'conv_1.conv.weight': 0,
        'conv_1.conv.bias': 0,
        'norm_2.norm.running_mean': 0,
        'norm_2.norm.running_var': 0,
        'norm_2.weight_embedding.weight': 1,
        'norm_2.bias_embedding.weight': 1,
        'conv_2.conv.weight': 1,
    }.items():
        key = f'{block}.{name}'
        state[key] = state[key].narrow(dim, 0, 5)
    other.load_state_dict(state)
    assert other.conv_blocks[0].conv_1.conv.weight.shape[0] == 5
    return other


@pytest.mark.parametrize(
    'change',
    [copied, averaged, moved, loaded, exchanged, narrowed],
    ids=lambda change: change.__name__,
)
def test_it_holds_when_the_generator_is(change):
    assert lies_by_rows_of_channels(change(pruned()))


def test_a_copy_goes_its_own_way():
    generator = pruned()
    other = copy.deepcopy(generator).double()
    noise, labels = every_class()
    other(noise.double(), label=labels)
    assert lies_as_torch_makes_it(other)
    generator(noise, label=labels)
    assert lies_by_rows_of_channels(generator)


def test_parameters_of_other_layers_lie_as_before():
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(36, 5))
    strides = [p.stride() for p in net.parameters()]
    LayoutFollower().follow(net)
    expected = net(torch.ones(2, 4, 8))
    assert [p.stride() for p in net.parameters()] == strides
    assert expected.shape == (2, 5)


def test_it_is_trained_on_as_any_other():
    """Weights laid out where no gradients are wanted still take them, and
    the optimizer knows them as before."""
    generator = pruned().double()
    optimizer = torch.optim.SGD(generator.parameters(), lr=1e-3)
    noise, labels = every_class()
    with torch.inference_mode():
        generator(noise.double(), label=labels)
    generator.float()
    with torch.inference_mode():
        before = generator(noise, label=labels).clone()
    generator(noise, label=labels).square().mean().backward()
    optimizer.step()
    assert lies_by_rows_of_channels(generator)
    with torch.no_grad():
        assert (generator(noise, label=labels) - before).abs().max() > 1e-6


class Pair(nn.Module):
    """Images among other things."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image):
        return dict(images=[self.conv(image)], count=len(image))


def test_all_that_is_returned_lies_as_before():
    net = Pair()
    LayoutFollower().follow(net)
    out = net(torch.ones(2, 3, 6, 6))
    assert out['count'] == 2 and out['images'][0].is_contiguous()
    assert not net.conv.weight.is_contiguous()


@pytest.mark.parametrize(
    'device, dtype, capability, expected',
    [
        ('cuda', torch.float16, (7, 0), torch.channels_last),
        ('cuda', torch.bfloat16, (9, 0), torch.channels_last),
        ('cuda', torch.float32, (9, 0), torch.contiguous_format),
        ('cuda', torch.float16, (6, 1), torch.contiguous_format),
        ('cpu', torch.float32, None, torch.channels_last),
        ('cpu', torch.bfloat16, None, torch.channels_last),
        ('cpu', torch.float64, None, None),
        ('xpu', torch.float32, None, None),
        ('meta', torch.float32, None, None),
    ],
)
@pytest.mark.needs_torch('2.6')
def test_the_layout_of_a_device(
    device, dtype, capability, expected, monkeypatch
):
    monkeypatch.setattr(
        torch.cuda, 'get_device_capability', lambda device: capability
    )
    with FakeTensorMode():
        weight = torch.empty(4, 4, 3, 3, device=device, dtype=dtype)
    assert fast_layout(weight) == expected


@pytest.mark.needs_torch('2.6')
def test_autocast_on_a_gpu_is_half_precision(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, 'get_device_capability', lambda device: (8, 0)
    )
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda: True)
    with FakeTensorMode():
        weight = torch.empty(4, 4, 3, 3, device='cuda')
    assert fast_layout(weight) == torch.channels_last


@torch.no_grad()
@pytest.mark.needs_torch('2.6')
def test_graphs_are_made_from_it():
    """By the compiler and by torch.export, from a generator never called."""
    noise, labels = every_class()
    expected = pruned()(noise, label=labels)
    generator = pruned()
    compiled = torch.compile(generator, backend='eager', fullgraph=True)
    program = torch.export.export(
        pruned(), (noise,), dict(label=labels), strict=False
    )
    weights = [
        value
        for name, value in program.state_dict.items()
        if name.endswith('conv.weight')
    ]
    assert len(weights) > 6 and all(w.stride(1) == 1 for w in weights)
    for net in (compiled, program.module()):
        image = net(noise, label=labels)
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)
        assert image.is_contiguous()
    assert lies_by_rows_of_channels(generator)
