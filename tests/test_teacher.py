import copy

import pytest
import torch
from conftest import BIGGAN, SAGAN, TEACHER, build_generator, every_class

from ppcd_mmagic.models import FeatureTap
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.registry import MODELS


@pytest.fixture
def generator():
    return build_generator(TEACHER)


def teacher_with(path, **changes):
    return MODELS.build(
        dict(
            type='BigGANTeacher',
            generator={**copy.deepcopy(TEACHER), **changes},
            checkpoint=str(path)))


def image(generator):
    noise, labels = every_class()
    with torch.no_grad():
        return generator(noise, label=labels)


def save(path, generator, prefix, **more):
    state = {f'{prefix}{k}': v for k, v in generator.state_dict().items()}
    torch.save(dict(state_dict={**state, **more}), path)


@pytest.mark.parametrize(
    'prefix', ['generator_ema.module.', 'generator_ema.', 'generator.', ''])
def test_loads_checkpoints_of_mmagic(prefix, generator, tmp_path):
    save(tmp_path / 't.pth', generator, prefix)
    assert torch.equal(
        image(teacher_with(tmp_path / 't.pth').generator), image(generator))


def test_prefers_ema_weights(generator, tmp_path):
    raw = {
        f'generator.{k}': torch.zeros_like(v)
        for k, v in generator.state_dict().items()
    }
    save(tmp_path / 't.pth', generator, 'generator_ema.module.', **raw)
    assert torch.equal(
        image(teacher_with(tmp_path / 't.pth').generator), image(generator))


def to_biggan_pytorch(state, mybn):
    """Names as in ajbrock/BigGAN-PyTorch: BigGAN.py and layers.py. The one
    attention block of the test's generator follows block 0."""
    names = {'0': 'blocks.0.0', '1': 'blocks.0.1', '2': 'blocks.1.0'}
    bn = '.bn' if mybn else ''
    original = {}
    for key, value in state.items():
        parts = key.split('.')
        if key.endswith('num_batches_tracked'):
            continue
        if parts[0] == 'conv_blocks':
            rest = [p for p in parts[2:] if p != 'conv']
            if rest[0] == 'shortcut':
                rest[0] = 'conv_sc'
            if rest[0] in ('bn1', 'bn2') and rest[1] == 'bn':
                rest = [rest[0] + bn, rest[2].replace('running', 'stored')]
            new = '.'.join([names[parts[1]], *rest])
        elif parts[0] == 'output_layer':
            if parts[1] == 'conv':
                new = f'output_layer.2.{parts[2]}'
            elif 'running' in parts[2]:
                new = f'output_layer.0{bn}.' + parts[2].replace(
                    'running', 'stored')
            else:
                new = 'output_layer.0.' + parts[2].replace('weight', 'gain')
        else:
            new = key.replace('noise2feat', 'linear').replace(
                'shared_embedding', 'shared')
        original[new] = value
    if mybn:
        original['blocks.0.0.bn1.bn.accumulation_counter'] = torch.zeros(1)
    return original


@pytest.mark.parametrize('mybn', [False, True])
def test_converts_biggan_pytorch(mybn, generator, tmp_path):
    original = to_biggan_pytorch(generator.state_dict(), mybn)
    assert 'blocks.0.1.theta.weight' in original
    assert 'blocks.1.0.conv_sc.weight' in original
    torch.save(original, tmp_path / 'G_ema.pth')
    assert torch.equal(
        image(teacher_with(tmp_path / 'G_ema.pth').generator),
        image(generator))


def test_missing_checkpoint(tmp_path):
    with pytest.raises(PPCDError, match='teacher.*absent.pth.*exist'):
        teacher_with(tmp_path / 'absent.pth')


def test_truncated_checkpoint(generator, tmp_path):
    path = tmp_path / 't.pth'
    save(path, generator, 'generator.')
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match='cannot be read.*truncated'):
        teacher_with(path)


def test_missing_and_unexpected_keys_are_named(generator, tmp_path):
    state = generator.state_dict()
    state['extra.weight'] = state.pop('shared_embedding.weight')
    torch.save(dict(state_dict=state), tmp_path / 't.pth')
    with pytest.raises(
            ValueError,
            match=r'1 keys missing \(shared_embedding.weight\).*'
            r'1 keys unexpected \(extra.weight\)'):
        teacher_with(tmp_path / 't.pth')


def test_other_shapes_are_named(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    with pytest.raises(
            ValueError, match=r'shape \(shared_embedding.weight \(5, 6\) '
            r'instead of \(9, 6\)'):
        teacher_with(tmp_path / 't.pth', num_classes=9)


def test_a_failed_load_changes_nothing(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    other = build_generator(BIGGAN)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError):
        load_weights(other, str(tmp_path / 't.pth'), 'student')
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key])


def test_teacher_is_frozen_and_belongs_to_nobody(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    teacher = teacher_with(tmp_path / 't.pth')
    holder = torch.nn.ModuleDict(dict(teacher=teacher))
    holder.train()
    assert not any(m.training for m in teacher.generator.modules())
    assert not list(holder.parameters()) and not holder.state_dict()
    before = copy.deepcopy(teacher.generator.state_dict())
    noise, labels = every_class()
    features = teacher(noise.requires_grad_(), labels)
    assert all(not f.requires_grad for f in features.values())
    for key, value in teacher.generator.state_dict().items():
        assert torch.equal(value, before[key])
    assert next(holder.double().teacher.generator.parameters()
                ).dtype == torch.float64, 'it must follow .to()'


def test_features_by_resolution_are_those_after_attention(generator):
    noise, labels = every_class()
    with FeatureTap(generator, 'conv_blocks.*') as tap:
        generator(noise, label=labels)
    features = tap.by_resolution()
    assert {size: tuple(f.shape[1:]) for size, f in features.items()
            } == {8: (16, 8, 8), 16: (8, 16, 16)}
    assert features[8] is tap.features['conv_blocks.1']


def test_taps_leave_no_hooks_behind(generator):
    noise, labels = every_class()
    with pytest.raises(RuntimeError):
        with FeatureTap(generator, 'conv_blocks.*'):
            generator(noise, label=labels)
            raise RuntimeError
    for module in generator.modules():
        assert not module._forward_hooks


def test_tap_names_unknown_layers():
    with pytest.raises(ValueError, match=r'"blocks.\*".*has: .*conv_blocks.0'):
        FeatureTap(build_generator(SAGAN), 'blocks.*')
