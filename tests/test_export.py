import copy
import itertools
import json
import subprocess
import sys

import pytest
import torch
from conftest import (
    BIGGAN,
    CLASSES,
    NOISE,
    SAGAN,
    STUDENTS,
    build_generator,
    every_class,
    prune,
)
from mmagic.apis import init_model
from mmagic.models.editors.biggan import BigGANGenerator
from mmagic.models.editors.biggan.biggan_modules import SelfAttentionBlock
from mmagic.models.editors.sagan import SNGANGenerator
from mmengine.config import Config

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import (
    complexity,
    fold_computed_weights,
    link_masks,
    named_masks,
)
from ppcd_mmagic.export import (
    ExportMismatch,
    build_student,
    compare,
    export_student,
    save_export,
)
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.models import upsampling_conv
from ppcd_mmagic.registry import MODELS


def student_checkpoint(path, generator):
    """A checkpoint as training writes it: raw and EMA generator."""
    state = {
        f'generator.{k}': v + 1
        for k, v in generator.state_dict().items()
        if v.is_floating_point()
    }
    state.update(
        {
            f'generator_ema.module.{k}': v
            for k, v in generator.state_dict().items()
        }
    )
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
                generator=generator,
            )
        )
    )


@pytest.mark.parametrize('alpha', [0, 0.6, 0.9])
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
        student_checkpoint(tmp_path / 's.pth', generator),
    )
    out = tmp_path / 'export'
    save_export(export, str(out))

    model = init_model(
        str(out / 'config.py'), str(out / 'generator.pth'), device='cpu'
    )
    assert not any(True for _ in named_masks(model.generator))
    assert isinstance(model.generator, (SNGANGenerator, BigGANGenerator))
    with torch.no_grad():
        actual = model.generator(noise, label=labels)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['after'] == dict(
        parameters=parameters_by_hand(generator),
        multiply_adds=multiply_adds_by_hand(model.generator),
    )


def parameters_by_hand(masked):
    """What is left when every dead row and column is cut, counted layer by
    layer from the masks alone."""
    masks_total = sum(mask.channels for _, mask in named_masks(masked))
    left = sum(p.numel() for p in masked.parameters()) - masks_total
    dead_streams = {}
    channels = link_masks(masked, example_inputs(masked))
    for name, module in masked.named_modules():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        dead_in = int((~channels.alive_inputs(name)).sum())
        # conv_1 alone owns its channels; the residual stream's are dead where
        # conv_2 and shortcut agree, which its readers know
        dead_out = 0
        if 'conv_1' in name or 'conv1' in name:
            dead_out = int((~channels.alive_outputs(name)).sum())
        elif any(
            part in name for part in ('conv_2', 'conv2', 'shortcut', '.o.')
        ):
            dead_out = stream_dead(channels, name)
        k = module.kernel_size[0] ** 2
        full = module.out_channels * module.in_channels * k
        kept = (
            (module.out_channels - dead_out)
            * (module.in_channels - dead_in)
            * k
        )
        left -= full - kept
        if module.bias is not None:
            left -= dead_out
        dead_streams[name] = dead_in
    for name, module in masked.named_modules():
        kind = type(module).__name__
        if kind in ('SNConditionNorm', 'BigGANConditionBN'):
            reader = {
                'norm_1': 'conv_1',
                'norm_2': 'conv_2',
                'bn1': 'conv1',
                'bn2': 'conv2',
            }[name.split('.')[-1]]
            dead = dead_streams[f'{name.rpartition(".")[0]}.{reader}.conv']
            left -= dead * sum(
                p.numel() // p.shape[columns(module)]
                for p in module.parameters()
            )
        elif name.endswith('to_rgb.bn') or name.endswith('output_layer.bn'):
            left -= 2 * dead_streams[name.replace('.bn', '.conv')]
    return left


@torch.no_grad()
def multiply_adds_by_hand(generator):
    """Of one image: every output of a convolution or linear layer takes as
    many as its row of the weights is long. Self-attention compares every
    pixel with every fourth one, and sums over those."""
    count = 0

    def of_layer(layer, args, out):
        nonlocal count
        count += out.numel() * layer.weight[0].numel()

    def of_attention(block, args, out):
        nonlocal count
        pixels = args[0].shape[-2] * args[0].shape[-1]
        inner = block.theta.conv.out_channels + block.g.conv.out_channels
        count += pixels * pixels // 4 * inner

    handles = []
    for layer in generator.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            handles.append(layer.register_forward_hook(of_layer))
        elif isinstance(layer, SelfAttentionBlock):
            handles.append(layer.register_forward_hook(of_attention))
    noise, labels = every_class()
    generator(noise[:1], label=labels[:1])
    for handle in handles:
        handle.remove()
    return count


def columns(norm):
    """The dimension of the channels in a conditional norm's parameters."""
    return 1 if type(norm).__name__ == 'SNConditionNorm' else 0


def stream_dead(channels, name):
    index = int(name.split('.')[1]) - ('.o.' in name)
    block = f'conv_blocks.{index}'
    second = (
        'conv_2'
        if hasattr(channels.module.get_submodule(block), 'conv_2')
        else 'conv2'
    )
    return int(
        (
            ~channels.alive_outputs(f'{block}.{second}')
            & ~channels.alive_outputs(f'{block}.shortcut')
        ).sum()
    )


def test_export_of_masks_attached_by_name(tmp_path):
    config = dict(
        type='MaskedGenerator',
        generator=dict(SAGAN, type='SAGANGenerator'),
        convs=['conv_blocks.*.conv_1'],
    )
    generator = MODELS.build(config).eval()
    prune(generator, 0.5)
    export = export_student(
        training_config(config),
        student_checkpoint(tmp_path / 's.pth', generator),
    )
    noise, labels = every_class(2)
    with torch.no_grad():
        torch.testing.assert_close(
            export.generator(noise, label=labels),
            generator(noise, label=labels),
            rtol=0,
            atol=1e-5,
        )
    # half of conv_1's 16 channels, in three blocks: their rows with biases,
    # the columns of conv_2 and gamma and beta of the norm between
    inputs = [
        block.conv_1.conv.in_channels
        for block in generator.conv_blocks
        if hasattr(block, 'conv_1')
    ]
    outputs = [
        block.conv_2.conv.out_channels
        for block in generator.conv_blocks
        if hasattr(block, 'conv_2')
    ]
    lost = sum(
        mask.num_pruned * (9 * before + 1 + 9 * after + 2 * CLASSES)
        for (_, mask), before, after in zip(
            named_masks(generator), inputs, outputs
        )
    )
    summary = export.summary
    assert lost > 0
    assert (
        summary['before']['parameters'] - summary['after']['parameters'] == lost
    )


@pytest.mark.parametrize('name', ['sagan', 'biggan'])
def test_summary_counts_the_dense_generator_and_what_is_pruned(name, tmp_path):
    generator = build_generator(STUDENTS[name])
    prune(generator, 0.6)
    summary = export_student(
        training_config(STUDENTS[name]),
        student_checkpoint(tmp_path / 's.pth', generator),
    ).summary
    dense = MODELS.build(DENSE[name]).eval()
    assert summary['before'] == dict(
        parameters=sum(p.numel() for p in dense.parameters()),
        multiply_adds=multiply_adds_by_hand(dense),
    )
    masks = dict(named_masks(generator))
    assert summary['sparsity'] == {
        name: int(mask.pruned.sum()) / len(mask.weight)
        for name, mask in masks.items()
    }
    assert len(masks) > 4 and min(summary['sparsity'].values()) > 0.4
    assert summary['classes_compared'] == CLASSES


DENSE = dict(
    sagan={
        **SAGAN,
        'type': 'SAGANGenerator',
        'with_spectral_norm': False,
        'with_embedding_spectral_norm': False,
        'attention_cfg': dict(
            type='SelfAttentionBlock', with_spectral_norm=False
        ),
    },
    biggan={**BIGGAN, 'type': 'BigGANGenerator', 'with_spectral_norm': False},
)


def test_what_is_written_is_mmagics_own_generator_with_narrower_weights(
    tmp_path,
):
    """Read by torch.load into MMagic's dense SAGAN, tensor by tensor."""
    config = dict(SAGAN, residual_masks='shared')
    student = build_generator(config)
    prune(student, 0.6)
    save_export(
        export_student(
            training_config(config),
            student_checkpoint(tmp_path / 's.pth', student),
        ),
        str(tmp_path / 'export'),
    )
    settings = dict(DENSE['sagan'])
    settings.pop('type')
    dense = SNGANGenerator(**settings).eval()
    wanted = set(dense.state_dict())
    state = torch.load(tmp_path / 'export' / 'generator.pth')['state_dict']
    assert {f'generator.{key}' for key in wanted} == set(state)
    narrower = 0
    for key, value in state.items():
        path, _, name = key.removeprefix('generator.').rpartition('.')
        layer = dense.get_submodule(path)
        narrower += getattr(layer, name).numel() - value.numel()
        if name in layer._buffers:
            layer.register_buffer(name, value)
        else:
            layer.register_parameter(name, torch.nn.Parameter(value))
    assert narrower > 1000
    noise, labels = every_class(2)
    with torch.no_grad():
        torch.testing.assert_close(
            dense(noise, label=labels),
            student(noise, label=labels),
            rtol=0,
            atol=1e-5,
        )


def test_trained_student_and_its_export_draw_the_same(
    trained_student, tmp_path
):
    """Where a norm's variance has gone to zero, and EMA is not the raw
    generator."""
    config = Config.fromfile(trained_student.config)
    export = export_student(config, trained_student.checkpoint)
    out = tmp_path / 'export'
    save_export(export, str(out))
    exported = init_model(
        str(out / 'config.py'), str(out / 'generator.pth'), device='cpu'
    ).generator
    student = MODELS.build(
        {**config.model.generator, 'noise_size': 24, 'num_classes': 10}
    ).eval()
    state = torch.load(trained_student.checkpoint, weights_only=False)[
        'state_dict'
    ]
    student.load_state_dict(
        {
            key.removeprefix('generator_ema.module.'): value
            for key, value in state.items()
            if key.startswith('generator_ema.module.')
        }
    )
    labels = torch.arange(10).repeat(8)
    noise = torch.randn(80, 24)
    with torch.no_grad():
        expected = student(noise, label=labels)
        torch.testing.assert_close(
            exported(noise, label=labels), expected, rtol=0, atol=1e-5
        )
    assert expected.std() > 0.2
    assert export.summary['after']['parameters'] == sum(
        p.numel() for p in exported.parameters()
    )
    for name, sparsity in export.summary['sparsity'].items():
        assert 0.5 <= sparsity <= 0.6, name


@pytest.mark.parametrize(
    'changes, formats',
    [
        (dict(rgb_to_bgr=True), ['mmagic']),
        (
            dict(num_classes=0, use_cbn=False),
            ['mmagic', 'torch_export', 'onnx'],
        ),
        (dict(out_channels=1), ['mmagic', 'torch_export']),
    ],
    ids=['colours turned', 'no classes', 'one colour'],
)
def test_students_of_other_kinds_are_exported(changes, formats, tmp_path):
    inner = {**DENSE['sagan'], **changes}
    config = dict(type='MaskedGenerator', generator=inner, convs='*')
    generator = MODELS.build(config).eval()
    names = [name for name, _ in named_masks(generator)]
    assert 'to_rgb' not in names and len(names) >= 6
    prune(generator, 0.5)
    noise, labels = every_class()
    given = {} if changes.get('num_classes') == 0 else dict(label=labels)
    with torch.no_grad():
        expected = generator(noise, **given)
    training = training_config(config)
    if not given:
        training.model.num_classes = None
    export = export_student(
        training, student_checkpoint(tmp_path / 's.pth', generator)
    )
    save_export(export, str(tmp_path / 'export'), formats)
    with torch.no_grad():
        torch.testing.assert_close(
            export.generator(noise, **given), expected, rtol=0, atol=1e-5
        )
    before, after = (
        export.summary[w]['parameters'] for w in ('before', 'after')
    )
    assert after < 0.7 * before


class Needy(MODELS.get('PPCDGAN')):
    """Takes a loss, which it cannot do without, and a critic, which it can;
    and takes its configs apart."""

    def __init__(
        self,
        generator,
        loss,
        critic,
        weight=1,
        hints=(),
        more=None,
        test_cfg=None,
        **kwargs,
    ):
        super().__init__(generator, **kwargs)
        assert loss.pop('name') == 'needed' and loss.pop('by').pop('me')


def test_config_of_an_export_is_what_the_model_cannot_be_built_without(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(MODELS._module_dict, 'Needy', Needy)
    generator = build_generator(STUDENTS['sagan_plain'])
    config = training_config(STUDENTS['sagan_plain'])
    config.model.update(
        type='Needy',
        loss=dict(name='needed', by=dict(me=True)),
        critic=dict(type='None'),
        weight=3,
        hints=[dict(a=1)],
        more=dict(b=2),
        test_cfg=dict(scale=2),
        discriminator_steps=5,
        discriminator=dict(type='ProjDiscriminator'),
        ema_config=dict(type='ExponentialMovingAverage'),
        teacher=dict(type='BigGANTeacher'),
    )
    before = copy.deepcopy(config.to_dict())
    export = export_student(
        config, student_checkpoint(tmp_path / 's.pth', generator)
    )
    model = copy.deepcopy(export.config.model)
    assert model.pop('generator').type == 'ppcd_mmagic.PrunedGenerator'
    assert model == dict(
        type='Needy',
        num_classes=CLASSES,
        noise_size=NOISE,
        weight=3,
        loss=dict(name='needed', by=dict(me=True)),
        critic=None,
        data_preprocessor=dict(type='DataPreprocessor'),
        test_cfg=dict(scale=2),
        discriminator_steps=5,
    )
    built = MODELS.build(export.config.model)
    assert built.generator.num_classes == CLASSES
    export.config.model.test_cfg.scale = 9
    export.config.model.generator.generator.base_channels = 9
    assert config.to_dict() == before


TESTING = dict(
    test_dataloader=dict(batch_size=3),
    test_cfg=dict(type='MultiTestLoop'),
    visualizer=dict(type='Visualizer'),
    vis_backends=[dict(type='VisBackend')],
    env_cfg=dict(cudnn_benchmark=True),
    randomness=dict(seed=4),
    log_level='ERROR',
)


def test_config_of_an_export_holds_what_testing_needs_and_no_training(tmp_path):
    generator = build_generator(STUDENTS['sagan_plain'])
    config = training_config(STUDENTS['sagan_plain'])
    config.update(
        **TESTING,
        test_evaluator=dict(type='Evaluator'),
        train_dataloader=dict(batch_size=2),
        optim_wrapper=dict(),
        work_dir='somewhere',
        default_scope='mmagic',
    )
    exported = export_student(
        config, student_checkpoint(tmp_path / 's.pth', generator)
    ).config
    assert exported.default_scope == 'ppcd_mmagic'
    # of a program that does not know the package
    assert exported.custom_imports == dict(
        imports=['ppcd_mmagic'], allow_failed_imports=False
    )
    for key, value in TESTING.items():
        assert exported[key] == value, key
    assert set(exported) == {
        'default_scope',
        'custom_imports',
        'model',
        'test_evaluator',
        *TESTING,
    }


def test_config_of_an_export_builds_it_as_narrow_as_its_weights(tmp_path):
    generator = build_generator(STUDENTS['biggan'])
    prune(generator, 0.6)
    export = export_student(
        training_config(STUDENTS['biggan']),
        student_checkpoint(tmp_path / 's.pth', generator),
    )
    built = MODELS.build(
        export.config.model.generator,
        default_args=dict(noise_size=NOISE, num_classes=CLASSES),
    )
    state = export.generator.state_dict()
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    # weights of another width would not be taken for its own
    assert 'narrow_to_weights' not in export.config.model.generator


def test_an_exported_generator_is_for_inference_alone(tmp_path):
    generator = build_generator(STUDENTS['sagan_plain'])
    exported = export_student(
        training_config(STUDENTS['sagan_plain']),
        student_checkpoint(tmp_path / 's.pth', generator),
    ).generator
    assert not any(module.training for module in exported.modules())
    assert not any(weight.requires_grad for weight in exported.parameters())


def test_sixteen_classes_are_compared_if_nothing_else_is_said(tmp_path):
    config = dict(STUDENTS['sagan_plain'], num_classes=20)
    training = training_config(config)
    training.model.num_classes = 20
    path = student_checkpoint(tmp_path / 's.pth', build_generator(config))
    assert export_student(training, path).summary['classes_compared'] == 16
    assert (
        export_student(training, path, max_classes=3).summary[
            'classes_compared'
        ]
        == 3
    )


def test_students_of_single_masked_blocks_are_linked(tmp_path):
    """A norm turns a zero channel into a constant of the class; only what
    is behind the norm cuts it off."""
    config = dict(DENSE['sagan'], blocks_cfg=dict(type='PPResSNGANGenResBlock'))
    generator = MODELS.build(dict(config)).eval()
    masks = dict(named_masks(generator))
    masks['conv_blocks.0.conv_1'].prune(5)
    dead = masks['conv_blocks.0.conv_1'].pruned
    path = student_checkpoint(tmp_path / 's.pth', generator)
    student = build_student(training_config(config), path)
    noise, labels = every_class()
    norm = student.conv_blocks[0].norm_2
    with torch.no_grad():
        before = student(noise, label=labels)
        norm.weight_embedding.weight[:, dead] += 100
        norm.bias_embedding.weight[:, dead] += 100
        after = student(noise, label=labels)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize('use', [build_student, export_student])
def test_a_missing_checkpoint_is_called_the_student_s(use, tmp_path):
    with pytest.raises(PPCDError, match='The student checkpoint .*absent.pth'):
        use(training_config(SAGAN), str(tmp_path / 'absent.pth'))


def test_config_of_an_export_tests_the_only_generator_there_is(trained_student):
    config = Config.fromfile(trained_student.config)
    config.test_evaluator = dict(
        metrics=[
            dict(type='DomainMetric', sample_model='ema'),
            dict(type='IS'),
            dict(type='PSNR', crop_border=2),
        ]
    )
    exported = export_student(config, trained_student.checkpoint).config
    first, second, without = exported.test_evaluator.metrics
    assert (first.sample_model, second.sample_model) == ('orig', 'orig')
    assert without == config.test_evaluator.metrics[2]
    assert exported.model.data_preprocessor == config.model.data_preprocessor
    assert exported.test_dataloader == config.test_dataloader
    assert config.test_evaluator.metrics[0].sample_model == 'ema'


def test_an_export_is_tested_in_any_folder(tmp_path, monkeypatch):
    """The judge is found, whose path is that of the training's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'judge.pth').write_text('')
    config = training_config(SAGAN)
    config.test_evaluator = dict(
        metrics=[
            dict(type='DomainMetric', checkpoint='judge.pth', prefix='.'),
            dict(type='DomainMetric', checkpoint='absent.pth'),
        ]
    )
    exported = export_student(
        config, student_checkpoint('s.pth', build_generator(SAGAN))
    ).config
    here, absent = exported.test_evaluator.metrics
    assert here.checkpoint == str(tmp_path / 'judge.pth')
    assert (here.prefix, absent.checkpoint) == ('.', 'absent.pth')
    assert config.test_evaluator.metrics[0].checkpoint == 'judge.pth'


# ---------------------------------------------------- what an export must refuse


class Answers(torch.nn.Module):
    """A stand-in for a generator: images of ``step`` times the class."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, noise, label):
        image = (self.step * label.double()).view(-1, 1, 1, 1)
        return image.expand(-1, 3, 2, 2)


def one_by_one(noise, labels):
    return [
        (z, dict(label=label))
        for z, label in zip(noise.split(1), labels.split(1))
    ]


def test_compare_returns_the_largest_difference_of_any_class():
    noise, labels = every_class()
    for one, other in ((0, 2e-6), (2e-6, 0), (1, 1 - 2e-6)):
        assert compare(
            Answers(one), Answers(other), one_by_one(noise, labels)
        ) == pytest.approx(2e-6 * 4)


def test_compare_refuses_a_difference_in_the_last_class_alone():
    student = build_generator(STUDENTS['sagan_plain'])
    other = copy.deepcopy(student)
    table = [m for m in other.modules() if isinstance(m, torch.nn.Embedding)]
    with torch.no_grad():
        table[-1].weight[-1] += 1
    noise, labels = every_class()
    with pytest.raises(ExportMismatch, match=r'class 4, first at conv_blocks'):
        compare(student, other, one_by_one(noise, labels))
    compare(student, other, one_by_one(noise[:-1], labels[:-1]))


def test_an_export_that_is_wrong_for_several_images_alone_is_refused(
    tmp_path, monkeypatch
):
    """Maps of 4 x 4 pixels reach the merged kernels in batches only."""
    config = dict(SAGAN, residual_masks='shared')
    student = build_generator(config)
    prune(student, 0.5)
    path = student_checkpoint(tmp_path / 's.pth', student)
    assert export_student(training_config(config), path).generators
    merged = upsampling_conv.merged_kernel
    monkeypatch.setattr(
        upsampling_conv, 'merged_kernel', lambda weight: merged(weight).flip(2)
    )
    with pytest.raises(ExportMismatch, match='for a batch of 8, first at conv'):
        export_student(training_config(config), path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_compare_refuses_what_is_not_finite_in_both(value):
    noise, labels = every_class()
    student = build_generator(SAGAN)
    student.register_forward_hook(lambda module, args, out: out * value)
    with pytest.raises(ExportMismatch, match='differs .* by nan .* class 0'):
        compare(student, student, one_by_one(noise, labels))


class Forgetful(SNGANGenerator):
    """Its images depend on something that no checkpoint holds: every one
    that is built shifts them, or the last class alone, by as much again."""

    shifts = itertools.count()

    def __init__(self, *args, only=None, shift=0.01, **kwargs):
        super().__init__(*args, **kwargs)
        shift *= next(self.shifts)

        def change(module, args, kwargs, out):
            where = (
                torch.ones(len(out))
                if only is None
                else (kwargs['label'] == only)
            )
            return out + shift * where.view(-1, 1, 1, 1)

        self.register_forward_hook(change, with_kwargs=True)


class Brighter(SNGANGenerator):
    """Where it has masks, by four millionths."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_forward_hook(
            lambda module, args, out: (
                out + 4e-6 * any(True for _ in named_masks(module))
            )
        )


def test_summary_says_how_much_the_images_differ(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._module_dict, 'Brighter', Brighter)
    config = dict(
        type='MaskedGenerator',
        convs=['conv_blocks.*.conv_1'],
        generator={**DENSE['sagan'], 'type': 'Brighter'},
    )
    summary = export_student(
        training_config(config),
        student_checkpoint(tmp_path / 's.pth', MODELS.build(config)),
    ).summary
    assert summary['max_difference'] == pytest.approx(4e-6, rel=0.2)


@pytest.mark.parametrize('only', [None, 0, CLASSES - 1])
def test_a_student_that_is_more_than_its_weights_is_refused(
    only, tmp_path, monkeypatch
):
    monkeypatch.setitem(MODELS._module_dict, 'Forgetful', Forgetful)
    inner = {**DENSE['sagan'], 'type': 'Forgetful', 'only': only}
    config = dict(
        type='MaskedGenerator', generator=inner, convs=['conv_blocks.*.conv_1']
    )
    generator = MODELS.build(config).eval()
    prune(generator, 0.5)
    checkpoint = student_checkpoint(tmp_path / 's.pth', generator)
    said = f'for class {only or 0}, first at the output layer; nothing was'
    with pytest.raises(ExportMismatch, match=said):
        export_student(training_config(config), checkpoint, max_classes=2)
    inner['shift'] = 0  # and without, it is exported
    export_student(training_config(config), checkpoint, max_classes=2)


class OddInThrees(SNGANGenerator):
    """Every one that is built shifts three images at once by as much again."""

    shifts = itertools.count()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        shift = 0.01 * next(self.shifts)
        self.register_forward_hook(
            lambda module, args, out: out + shift * (len(out) == 3)
        )


def test_an_export_that_is_wrong_in_another_batch_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(MODELS._module_dict, 'OddInThrees', OddInThrees)
    config = dict(
        type='MaskedGenerator',
        generator={**DENSE['sagan'], 'type': 'OddInThrees'},
        convs=['conv_blocks.*.conv_1'],
    )
    generator = MODELS.build(config).eval()
    prune(generator, 0.5)
    checkpoint = student_checkpoint(tmp_path / 's.pth', generator)
    with pytest.raises(ExportMismatch, match='a batch of 3'):
        export_student(training_config(config), checkpoint, max_classes=2)


def test_an_export_that_does_not_run_for_a_class_is_refused():
    student = build_generator(STUDENTS['sagan_plain'])
    other = copy.deepcopy(student)

    def refuse(module, args, kwargs):
        assert int(kwargs['label']) != 4, 'no such class'

    other.register_forward_pre_hook(refuse, with_kwargs=True)
    noise, labels = every_class()
    with pytest.raises(PPCDError, match='not run for class 4 .*no such class'):
        compare(student, other, one_by_one(noise, labels))


def test_summary_says_what_can_leave_and_why_not_the_rest(tmp_path):
    """conv_1 and the shortcut are masked, conv_2 is not: their sum stays."""
    config = dict(SAGAN, masked_convs=['conv_1', 'shortcut'])
    generator = build_generator(config)
    lines = export_student(
        training_config(config),
        student_checkpoint(tmp_path / 's.pth', generator),
    ).summary['channels']
    assert lines[0].endswith('masks on 4 of 11 convolutions')
    said = {line.split()[0]: line for line in lines[1:]}
    assert said['conv_blocks.0.conv_1'].endswith('masked, can leave')
    assert (
        'stays: meets the unmasked conv_blocks.0.conv_2'
        in said['conv_blocks.0.shortcut']
    )
    assert said['to_rgb'].endswith('not masked')


@pytest.mark.parametrize('max_classes', [-1, 0, 1])
def test_comparing_less_than_two_classes_is_refused(max_classes, tmp_path):
    generator = build_generator(SAGAN)
    with pytest.raises(PPCDError, match=f'max_classes={max_classes} must be'):
        export_student(
            training_config(SAGAN),
            student_checkpoint(tmp_path / 's.pth', generator),
            max_classes,
        )


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused_though_nothing_uses_them(
    value, tmp_path
):
    """In the row of a class that is not compared."""
    generator = build_generator(STUDENTS['sagan_plain'])
    table = next(
        m for m in generator.modules() if isinstance(m, torch.nn.Embedding)
    )
    with torch.no_grad():
        table.weight[2, 0] = value
    with pytest.raises(PPCDError, match='finite'):
        export_student(
            training_config(STUDENTS['sagan_plain']),
            student_checkpoint(tmp_path / 's.pth', generator),
            max_classes=2,
        )


def test_a_generator_without_masks_is_refused(tmp_path):
    dense = MODELS.build(DENSE['sagan'])
    with pytest.raises(ValueError, match='no masks.*give the config'):
        export_student(
            training_config(DENSE['sagan']),
            student_checkpoint(tmp_path / 's.pth', dense),
        )


def test_export_refuses_a_difference_and_says_where():
    student, other = build_generator(SAGAN), build_generator(SAGAN)
    with torch.no_grad():
        other.conv_blocks[2].conv_2.conv.bias += 0.1
    noise, labels = every_class()
    hooks = [
        [len(m._forward_hooks) for m in generator.modules()]
        for generator in (student, other)
    ]
    with pytest.raises(
        ExportMismatch, match=r'class 0, first at conv_blocks.2'
    ):
        compare(student, other, one_by_one(noise, labels))
    assert [
        [len(m._forward_hooks) for m in generator.modules()]
        for generator in (student, other)
    ] == hooks


@pytest.mark.parametrize('name', STUDENTS)
def test_folding_spectral_norm_changes_nothing(name):
    generator = build_generator(STUDENTS[name])
    prune(generator, 0.5)
    noise, labels = every_class()
    with torch.no_grad():
        expected = generator(noise, label=labels)
        fold_computed_weights(generator)
        torch.testing.assert_close(
            generator(noise, label=labels), expected, rtol=0, atol=1e-6
        )
    state = generator.state_dict()
    assert not any('weight_orig' in key or key.endswith('u0') for key in state)
    generator.load_state_dict(state)


class OneConvolution(torch.nn.Module):
    """3 channels of 4 x 4 pixels to 5 of 2 x 2, by a kernel of 3 x 3."""

    noise_size = 48

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(5)

    def forward(self, noise, label):
        return self.norm(self.conv(noise.view(-1, 3, 4, 4))).relu()


def test_complexity_of_a_convolution_by_hand():
    assert complexity(
        OneConvolution().eval(), (torch.zeros(1, 48), torch.zeros(1).long())
    ) == dict(parameters=5 * 3 * 9 + 5 + 2 * 5, multiply_adds=2 * 2 * 5 * 3 * 9)


@pytest.mark.slow
def test_command_line(tmp_path, repo):
    generator = build_generator(SAGAN)
    prune(generator, 0.6)
    checkpoint = student_checkpoint(tmp_path / 's.pth', generator)
    training_config(SAGAN).dump(str(tmp_path / 'train.py'))
    run = subprocess.run(
        [sys.executable, 'tools/export.py', tmp_path / 'train.py', checkpoint],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert 'x smaller' in run.stdout
    assert (tmp_path / 'export' / 'generator.pth').exists()
    missing = subprocess.run(
        [
            sys.executable,
            'tools/export.py',
            tmp_path / 'train.py',
            tmp_path / 'absent.pth',
        ],
        capture_output=True,
        text=True,
    )
    assert missing.returncode == 2
    assert (
        missing.stderr.strip()
        .splitlines()[-1]
        .startswith('error: The student checkpoint')
    )
