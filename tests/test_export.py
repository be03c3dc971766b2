import json
import subprocess
import sys

import pytest
import torch
from conftest import (BIGGAN, CLASSES, NOISE, SAGAN, STUDENTS,
                      build_generator, every_class, prune)
from mmagic.apis import init_model
from mmengine.config import Config

from ppcd_mmagic.export import (ExportMismatch, compare, complexity,
                                export_student, save_export)
from ppcd_mmagic.export.spectral_norm import fold_spectral_norm
from ppcd_mmagic.masks import input_gate_of, mask_of, named_masks
from ppcd_mmagic.registry import MODELS


def student_checkpoint(path, generator):
    """A checkpoint as training writes it: raw and EMA generator."""
    state = {f'generator.{k}': v + 1 for k, v in generator.state_dict().items()
             if v.is_floating_point()}
    state.update({
        f'generator_ema.module.{k}': v
        for k, v in generator.state_dict().items()
    })
    state['generator_ema.steps'] = torch.tensor(3)
    state['discriminator.weight'] = torch.zeros(1)
    torch.save(dict(state_dict=state), path)
    return str(path)


def training_config(generator):
    return Config(
        dict(
            model=dict(
                type='PPCDGAN',
                num_classes=CLASSES,
                noise_size=NOISE,
                data_preprocessor=dict(type='DataPreprocessor'),
                generator=generator)))


@pytest.mark.parametrize('alpha', [0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', STUDENTS)
def test_export_equals_masked_student(name, residual_masks, alpha, tmp_path):
    config = dict(STUDENTS[name], residual_masks=residual_masks)
    generator = build_generator(config)
    prune(generator, alpha)
    noise, labels = every_class(4)
    with torch.no_grad():
        expected = generator(noise, label=labels)
    assert expected.std() > 0.05
    export = export_student(
        training_config(config),
        student_checkpoint(tmp_path / 's.pth', generator))
    save_export(export, str(tmp_path))

    model = init_model(
        str(tmp_path / 'config.py'),
        str(tmp_path / 'generator.pth'),
        device='cpu')
    assert not any(True for _ in named_masks(model.generator))
    assert type(model.generator).__name__ in ('SNGANGenerator',
                                              'BigGANGenerator')
    with torch.no_grad():
        actual = model.generator(noise, label=labels)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['max_difference'] <= 1e-5
    assert summary['after'] == complexity(model.generator)
    assert summary['after']['parameters'] == parameters_by_hand(generator)


def parameters_by_hand(masked):
    """What is left when every dead row and column is cut, counted layer by
    layer from the masks alone."""
    masks_total = sum(mask.channels for _, mask in named_masks(masked))
    left = sum(p.numel() for p in masked.parameters()) - masks_total
    dead_streams = {}
    for name, module in masked.named_modules():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        gate = input_gate_of(module)
        dead_in = int((~gate.alive()).sum()) if gate else 0
        mask = mask_of(module)
        # conv_1 alone owns its channels; the residual stream's are dead where
        # conv_2 and shortcut agree, which its readers know
        dead_out = 0
        if mask is not None:
            dead_out = mask.num_pruned if 'conv_1' in name or 'conv1' in name \
                else stream_dead(masked, name)
        elif name.endswith('.o.conv'):
            dead_out = stream_dead(masked, name)
        k = module.kernel_size[0]**2
        full = module.out_channels * module.in_channels * k
        kept = (module.out_channels - dead_out) * (
            module.in_channels - dead_in) * k
        left -= full - kept
        if module.bias is not None:
            left -= dead_out
        dead_streams[name] = dead_in
    for name, module in masked.named_modules():
        kind = type(module).__name__
        if kind in ('SNConditionNorm', 'BigGANConditionBN'):
            reader = {'norm_1': 'conv_1', 'norm_2': 'conv_2', 'bn1': 'conv1',
                      'bn2': 'conv2'}[name.split('.')[-1]]
            dead = dead_streams[f'{name.rpartition(".")[0]}.{reader}.conv']
            left -= dead * sum(p.numel() // p.shape[columns(module)]
                               for p in module.parameters())
        elif name.endswith('to_rgb.bn') or name.endswith('output_layer.bn'):
            left -= 2 * dead_streams[name.replace('.bn', '.conv')]
    return left


def columns(norm):
    """The dimension of the channels in a conditional norm's parameters."""
    return 1 if type(norm).__name__ == 'SNConditionNorm' else 0


def stream_dead(masked, name):
    block = masked.get_submodule('.'.join(name.split('.')[:2]))
    if name.endswith('.o.conv'):
        index = int(name.split('.')[1]) - 1
        block = masked.conv_blocks[index]
    second = getattr(block, 'conv_2', getattr(block, 'conv2', None))
    return int((mask_of(second.conv).pruned
                & mask_of(block.shortcut.conv).pruned).sum())


def test_export_of_masks_attached_by_name(tmp_path):
    config = dict(
        type='MaskedGenerator',
        generator=dict(SAGAN, type='SAGANGenerator'),
        convs=['conv_blocks.*.conv_1'])
    generator = MODELS.build(config).eval()
    prune(generator, 0.5)
    export = export_student(
        training_config(config),
        student_checkpoint(tmp_path / 's.pth', generator))
    assert export.summary['after']['parameters'] == parameters_of(export)
    assert export.summary['after']['parameters'] < export.summary['before'][
        'parameters']


def parameters_of(export):
    return sum(p.numel() for p in export.generator.parameters())


def test_export_refuses_a_difference_and_says_where():
    student, other = build_generator(SAGAN), build_generator(SAGAN)
    with torch.no_grad():
        other.conv_blocks[2].conv_2.conv.bias += 0.1
    noise, labels = every_class()
    with pytest.raises(ExportMismatch, match=r'class 0, first at conv_blocks.2'):
        compare(student, other, noise, labels)


@pytest.mark.parametrize('name', STUDENTS)
def test_folding_spectral_norm_changes_nothing(name):
    generator = build_generator(STUDENTS[name])
    prune(generator, 0.5)
    noise, labels = every_class()
    with torch.no_grad():
        expected = generator(noise, label=labels)
        fold_spectral_norm(generator)
        torch.testing.assert_close(
            generator(noise, label=labels), expected, rtol=0, atol=1e-6)
    state = generator.state_dict()
    assert not any('weight_orig' in key or key.endswith('u0') for key in state)
    generator.load_state_dict(state)


def test_multiply_adds_of_a_convolution_by_hand():
    generator = build_generator(dict(BIGGAN, type='PPResBigGANGenerator'))
    total = complexity(generator)['multiply_adds']
    by_hand = 0
    handles = []

    def count(module, args, out):
        nonlocal by_hand
        if isinstance(module, torch.nn.Conv2d):
            by_hand += out.numel() * module.in_channels * \
                module.kernel_size[0]**2
        else:
            by_hand += out.numel() * module.in_features

    for module in generator.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            handles.append(module.register_forward_hook(count))
    noise, labels = every_class()
    generator(noise[:1], label=labels[:1])
    # self-attention: 8 x 8 queries, 4 x 4 keys, c/8 and c/2 channels of 16
    attention = 64 * 16 * (2 + 8)
    # spectral norm's own products are left out of the hand count
    plain = build_generator(dict(BIGGAN, with_spectral_norm=False))
    assert complexity(plain)['multiply_adds'] == by_hand + attention
    assert total >= by_hand + attention


@pytest.mark.slow
def test_command_line(tmp_path, repo):
    generator = build_generator(SAGAN)
    prune(generator, 0.6)
    checkpoint = student_checkpoint(tmp_path / 's.pth', generator)
    training_config(SAGAN).dump(str(tmp_path / 'train.py'))
    run = subprocess.run(
        [sys.executable, 'tools/export.py', tmp_path / 'train.py', checkpoint],
        capture_output=True,
        text=True)
    assert run.returncode == 0, run.stderr
    assert 'x smaller' in run.stdout
    assert (tmp_path / 'export' / 'generator.pth').exists()
    missing = subprocess.run([
        sys.executable, 'tools/export.py', tmp_path / 'train.py',
        tmp_path / 'absent.pth'
    ],
                             capture_output=True,
                             text=True)
    assert missing.returncode == 2
    assert missing.stderr.strip().splitlines()[-1].startswith(
        'error: The student checkpoint')
