"""What the package asks of a generator: inputs and names of layers."""

import pytest
import torch
import torch.nn as nn
from conftest import CLASSES, NOISE, SAGAN, build_generator

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import (
    class_inputs,
    example_inputs,
    find_layers,
    random_inputs,
)


class Enlarging(nn.Module):
    """Takes images, like a generator of super-resolution."""

    input_shape = (3, 5, 7)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x)


@pytest.fixture(scope='module')
def generator():
    return build_generator(SAGAN)


def test_example_inputs_are_noise_and_the_first_class_always_the_same(
    generator,
):
    noise, keywords = example_inputs(generator, batch=3)
    torch.manual_seed(99)
    again, _ = example_inputs(generator, batch=3)
    assert noise.shape == (3, NOISE) and torch.equal(noise, again)
    assert keywords['label'].tolist() == [0, 0, 0]
    assert generator(noise, **keywords).shape == (3, 3, 16, 16)


def test_example_inputs_leave_torch_s_random_state_alone(generator):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    example_inputs(generator)
    assert torch.equal(torch.rand(3), expected)


def test_inputs_of_a_generator_of_images_have_its_shape_and_no_label():
    values, keywords = example_inputs(Enlarging())
    assert values.shape == (2, 3, 5, 7) and keywords == {}
    values, keywords = example_inputs(Enlarging().double())
    assert values.dtype == torch.float64


def test_a_generator_that_says_nothing_of_its_input_is_refused():
    with pytest.raises(PPCDError, match='what Conv2d takes.*input_shape'):
        example_inputs(nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize(
    'count, classes',
    [(2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (99, [0, 1, 2, 3, 4])],
)
def test_class_inputs_are_spread_from_the_first_class_to_the_last(
    generator, count, classes
):
    probes = list(class_inputs(generator, count))
    assert [int(keywords['label']) for _, keywords in probes] == classes
    noises = torch.cat([noise for noise, _ in probes])
    assert noises.shape == (len(classes), NOISE)
    assert len(noises.unique(dim=0)) == len(classes)


def test_class_inputs_without_classes_are_as_many_as_asked_for():
    probes = list(class_inputs(Enlarging(), 4))
    assert len(probes) == 4 and all(k == {} for _, k in probes)
    assert len({float(values.sum()) for values, _ in probes}) == 4


def test_random_inputs_are_fresh_and_of_every_class(generator):
    torch.manual_seed(0)
    (one,), keywords = random_inputs(generator, 200)
    (other,), _ = random_inputs(generator, 200)
    assert one.shape == (200, NOISE) and not torch.equal(one, other)
    assert set(keywords['label'].tolist()) == set(range(CLASSES))
    assert abs(float(one.mean())) < 0.1 and abs(float(one.std()) - 1) < 0.1


def test_a_star_crosses_dots_and_the_outermost_layer_counts(generator):
    assert find_layers(generator, 'conv_blocks.*') == [
        'conv_blocks.0',
        'conv_blocks.1',
        'conv_blocks.2',
    ]
    assert find_layers(generator, 'conv_blocks.*.conv_1') == [
        'conv_blocks.0.conv_1',
        'conv_blocks.2.conv_1',
    ]
    assert find_layers(generator, '*.norm') == [
        'conv_blocks.0.norm_1.norm',
        'conv_blocks.0.norm_2.norm',
        'conv_blocks.2.norm_1.norm',
        'conv_blocks.2.norm_2.norm',
    ]


def test_several_patterns_name_layers_in_the_order_of_the_module(generator):
    assert find_layers(generator, ['to_rgb', 'conv_blocks.0']) == [
        'conv_blocks.0',
        'to_rgb',
    ]
