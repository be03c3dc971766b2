"""A model with a generator for each of its domains is exported as a whole."""

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.config import Config
from safetensors.torch import load_file

from ppcd_mmagic.channels import ExportMismatch, named_masks
from ppcd_mmagic.export import export_student, save_export
from ppcd_mmagic.registry import MODELS

NAMES = ['generators.photo', 'generators.mask']
# pruned channels of the layers, by generator
PRUNED = dict(
    photo=dict(first=[0, 2, 3, 7], second=[1, 5]),
    mask=dict(first=[4, 5, 6], second=[]),
)


class Recolour(nn.Module):
    """An image to an image; 8 channels between."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, image):
        return self.last(self.second(self.first(image).relu()).relu())


class Translator(nn.Module):
    """Holds them as MMagic's CycleGAN does."""

    def __init__(self, generator, domains=('photo', 'mask')):
        super().__init__()
        self.generators = nn.ModuleDict(
            {
                domain: MODELS.build(copy.deepcopy(generator))
                for domain in domains
            }
        )


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(MODELS._module_dict, 'Recolour', Recolour)
    monkeypatch.setitem(MODELS._module_dict, 'Translator', Translator)
    return Config(
        dict(
            model=dict(
                type='Translator',
                generator=dict(
                    type='MaskedGenerator',
                    generator=dict(type='Recolour'),
                    input_shape=(3, 6, 6),
                ),
            )
        )
    )


@pytest.fixture
def trained(config):
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    for domain, pruned in PRUNED.items():
        for name, mask in named_masks(model.generators[domain]):
            mask.pruned[pruned[name]] = True
    return model


@pytest.fixture
def export(config, trained, tmp_path):
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 's.pth')
    return export_student(config, str(tmp_path / 's.pth'), max_classes=3)


def images():
    return torch.rand(5, 3, 12, 9, generator=torch.Generator().manual_seed(1))


def by_hand(generator, pruned):
    """Without masks: what is pruned is not written."""

    def layer(name, image):
        conv = generator.get_submodule(name)
        weight = conv.weight.detach()
        image = F.conv2d(
            image, weight, conv.bias.detach(), padding=weight.shape[-1] // 2
        )
        image[:, pruned.get(name, [])] = 0
        return image

    return layer(
        'last', layer('second', layer('first', images()).relu()).relu()
    )


def test_each_draws_what_its_masked_student_drew(export, trained):
    assert list(export.generators) == NAMES
    assert export.generator is export.generators['generators.photo']
    for domain, pruned in PRUNED.items():
        with torch.no_grad():
            torch.testing.assert_close(
                export.generators[f'generators.{domain}'](images()),
                by_hand(trained.generators[domain], pruned),
                rtol=0,
                atol=1e-6,
            )


def counted(first, second, pixels=36):
    """Of a network with so many channels left."""
    weights = [3 * 9 * first, first * 9 * second, second * 3]
    return dict(
        parameters=sum(weights) + first + second + 3,
        multiply_adds=sum(weights) * pixels,
    )


def test_summary_is_of_all_of_them_together(export):
    summary = export.summary
    dense, photo, mask = counted(8, 8), counted(4, 6), counted(5, 8)
    assert summary['before'] == {key: 2 * dense[key] for key in dense}
    assert summary['after'] == {key: photo[key] + mask[key] for key in dense}
    assert summary['sparsity'] == {
        'generators.photo.first': 4 / 8,
        'generators.photo.second': 2 / 8,
        'generators.mask.first': 3 / 8,
        'generators.mask.second': 0,
    }
    assert summary['classes_compared'] == 3
    one = len(summary['channels']) // 2
    assert one >= 4
    assert summary['channels'][:one] == summary['channels'][one:]


def test_the_one_config_has_the_sizes_that_hold_all_of_them(export):
    generator = export.config.model.generator
    assert {k: tuple(v) for k, v in generator.layer_sizes.items()} == dict(
        first=(5, 3), second=(8, 5)
    )
    assert generator.narrow_to_weights is True
    assert tuple(generator.input_shape) == (3, 6, 6)


def test_mmagic_s_file_opens_all_of_them(export, trained, tmp_path):
    save_export(export, str(tmp_path / 'export'))
    config = Config.fromfile(tmp_path / 'export' / 'config.py')
    model = MODELS.build(config.model)
    state = torch.load(tmp_path / 'export' / 'generator.pth')['state_dict']
    model.load_state_dict(state, strict=True)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    for domain, pruned in PRUNED.items():
        with torch.no_grad():
            torch.testing.assert_close(
                model.generators[domain](images()),
                by_hand(trained.generators[domain], pruned),
                rtol=0,
                atol=1e-6,
            )


@pytest.mark.needs_torch('2.6')
def test_a_program_is_written_for_each(export, trained, tmp_path):
    out = tmp_path / 'export'
    save_export(export, str(out), ['torch_export'])
    assert {path.name for path in out.iterdir()} == {
        'config.py',
        'summary.json',
        'generators.photo.pt2',
        'generators.mask.pt2',
    }
    for domain, pruned in PRUNED.items():
        program = torch.export.load(out / f'generators.{domain}.pt2').module()
        # of the size of the examples
        found = program(input=images()[..., :6, :6])
        expected = by_hand(trained.generators[domain], pruned)
        torch.testing.assert_close(
            found[..., :4, :4], expected[..., :4, :4], rtol=0, atol=1e-6
        )


def test_safetensors_hold_them_all(export, tmp_path):
    save_export(export, str(tmp_path / 'export'), ['safetensors'])
    state = load_file(tmp_path / 'export' / 'generator.safetensors')
    expected = {
        f'{name}.{key}': value
        for name, generator in export.generators.items()
        for key, value in generator.state_dict().items()
    }
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)


class Restless(Recolour):
    """One that is built later sees more in its second layer."""

    built = 0

    def __init__(self):
        super().__init__()
        Restless.built += 1
        self.scale = 1 + 0.2 * Restless.built

    def forward(self, image):
        seen = self.first(image).relu() * self.scale
        return self.last(self.second(seen).relu())


def test_what_one_of_them_does_besides_is_told_without_a_class(
    config, trained, tmp_path, monkeypatch
):
    monkeypatch.setitem(MODELS._module_dict, 'Restless', Restless)
    config.model.generator.generator.type = 'Restless'
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 's.pth')
    with pytest.raises(
        ExportMismatch, match='for input 0, first at second; nothing was'
    ):
        export_student(config, str(tmp_path / 's.pth'))
