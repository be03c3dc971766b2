import pytest
import torch
from conftest import BIGGAN, CLASSES, NOISE, SAGAN, every_class
from mmagic.models.editors.sagan import SNGANGenerator

from ppcd_mmagic.models import ChunkedSelfAttentionBlock
from ppcd_mmagic.registry import MODELS

DENSE = dict(SAGAN, type='SAGANGenerator')
PLAIN_BIGGAN = dict(BIGGAN, type='BigGANGenerator')


def pruned(generator=DENSE, layer_sizes=None, **defaults):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='PrunedGenerator',
            generator=dict(generator),
            layer_sizes=layer_sizes or {},
            **defaults,
        )
    ).eval()


def test_it_is_mmagic_s_generator_with_the_same_image():
    torch.manual_seed(0)
    dense = MODELS.build(dict(DENSE)).eval()
    generator = pruned()
    for model in (dense, generator):
        model.conv_blocks[1].gamma.data.fill_(0.7)
    assert type(generator) is SNGANGenerator
    assert type(generator.conv_blocks[1]) is ChunkedSelfAttentionBlock
    noise, labels = every_class()
    with torch.no_grad():
        expected = dense(noise, label=labels)
        torch.testing.assert_close(
            generator(noise, label=labels), expected, rtol=0, atol=1e-5
        )
        assert (
            dense(noise, label=labels.flip(0)) - expected
        ).abs().max() > 0.01


def test_layers_are_as_narrow_as_their_sizes_say():
    sizes = {
        'conv_blocks.0.conv_1.conv': (5, 16),
        'conv_blocks.0.norm_2.norm': (5,),
        'conv_blocks.0.norm_2.weight_embedding': (5,),
        'conv_blocks.0.norm_2.bias_embedding': (5,),
        'conv_blocks.0.conv_2.conv': (16, 5),
    }
    generator = pruned(dict(DENSE, with_spectral_norm=False), sizes)
    block = generator.conv_blocks[0]
    assert block.conv_1.conv.weight.shape == (5, 16, 3, 3)
    assert block.norm_2.weight_embedding.weight.shape == (CLASSES, 5)
    assert block.conv_2.conv.weight.shape == (16, 5, 3, 3)
    assert generator.conv_blocks[2].conv_1.conv.weight.shape == (8, 16, 3, 3)
    noise, labels = every_class()
    assert generator(noise, label=labels).shape == (CLASSES, 3, 16, 16)


def test_layers_that_do_not_exist_are_named():
    with pytest.raises(ValueError, match='conv_blocks.9'):
        pruned(layer_sizes={'conv_blocks.9.conv_1.conv': (5, 16)})


def test_defaults_fill_in_what_the_config_leaves_out():
    bare = {k: v for k, v in DENSE.items() if k != 'noise_size'}
    generator = pruned(bare, noise_size=NOISE, num_classes=CLASSES + 3)
    assert generator.noise_size == NOISE
    assert generator.num_classes == CLASSES, 'the config comes first'


@pytest.mark.parametrize(
    'config, call',
    [
        (DENSE, lambda net, noise, labels: net(noise, label=labels)),
        (DENSE, lambda net, noise, labels: net(noise, 0, labels)),
        (PLAIN_BIGGAN, lambda net, noise, labels: net(noise, label=labels)),
        (PLAIN_BIGGAN, lambda net, noise, labels: net(noise, labels)),
    ],
)
def test_labels_outside_the_classes_are_refused(config, call):
    generator = pruned(config)
    noise = torch.randn(2, NOISE)
    image = call(generator, noise, torch.tensor([0, CLASSES - 1]))
    assert image.shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match='from 2 to 5 .*classes 0 to 4'):
        call(generator, noise, torch.tensor([CLASSES, 2]))
    with pytest.raises(ValueError, match='from -1 to 4 .*classes 0 to 4'):
        call(generator, noise, torch.tensor([4, -1]))


def test_embeddings_of_biggan_are_no_labels():
    """Between two classes, for interpolation."""
    generator = pruned(PLAIN_BIGGAN)
    noise = torch.randn(1, NOISE)
    embedding = generator.shared_embedding.weight[[3]].detach()
    with torch.no_grad():
        torch.testing.assert_close(
            generator(noise, label=embedding, use_outside_embedding=True),
            generator(noise, label=torch.tensor([3])),
        )
        generator(noise, label=9 * embedding, use_outside_embedding=True)


@MODELS.register_module()
class Repeater(torch.nn.Module):
    """Gives the labels back."""

    num_classes = 3

    def forward(self, noise, label):
        return label


def test_no_labels_at_all_are_no_mistake():
    nothing = torch.zeros(0, dtype=torch.long)
    assert pruned(dict(type='Repeater'))(None, nothing) is nothing


def narrower():
    """Weights of a generator whose first block is narrower inside."""
    sizes = {
        'conv_blocks.0.conv_1.conv': (5, 16),
        'conv_blocks.0.norm_2.norm': (5,),
        'conv_blocks.0.norm_2.weight_embedding': (5,),
        'conv_blocks.0.norm_2.bias_embedding': (5,),
        'conv_blocks.0.conv_2.conv': (16, 5),
    }
    return pruned(dict(DENSE, with_spectral_norm=False), sizes)


@pytest.mark.parametrize('holder', ['', 'generators.photo.'])
def test_it_becomes_as_narrow_as_the_weights_if_it_is_told_to(holder):
    """Also where it is a part of another model."""
    source = narrower()
    state = {f'{holder}{k}': v for k, v in source.state_dict().items()}
    state['conv_blocks.0.conv_1.conv.weight'] = state[
        f'{holder}conv_blocks.0.conv_1.conv.weight'
    ]
    generator = pruned(
        dict(DENSE, with_spectral_norm=False), narrow_to_weights=True
    )
    model = torch.nn.ModuleDict(dict(photo=generator)) if holder else generator
    if holder:
        model = torch.nn.ModuleDict(dict(generators=model))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and len(unexpected) == bool(holder)
    noise, labels = every_class()
    with torch.no_grad():
        assert torch.equal(
            generator(noise, label=labels), source(noise, label=labels)
        )


def test_weights_that_are_narrower_are_refused_unless_it_is_told():
    with pytest.raises(RuntimeError, match='size mismatch'):
        pruned(dict(DENSE, with_spectral_norm=False)).load_state_dict(
            narrower().state_dict()
        )


def test_it_tells_the_shape_of_its_input():
    assert pruned(input_shape=[3, 8, 8]).input_shape == (3, 8, 8)
    assert not hasattr(pruned(), 'input_shape')


def test_nothing_of_masks_is_left_in_it():
    generator = pruned(SAGAN)
    assert not any('mask' in key for key in generator.state_dict())
    assert all(
        not layer._forward_hooks and not layer._forward_pre_hooks
        for layer in generator.modules()
        if layer is not generator
    )
