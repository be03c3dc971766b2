import copy

import pytest
import torch
from conftest import (
    BIGGAN,
    CLASSES,
    NOISE,
    SAGAN,
    TEACHER,
    build_generator,
    every_class,
    prune,
)
from gans import DISCRIMINATOR, StandInForDDP, batch, build_gan, train_step
from mmengine.config import Config

from ppcd_mmagic.channels import named_masks, shrink_channels
from ppcd_mmagic.checkpoints import build_trained_generator, load_weights
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import FeatureTap, example_inputs
from ppcd_mmagic.registry import MODELS


@pytest.fixture
def generator():
    return build_generator(TEACHER)


def teacher_with(path, **changes):
    return MODELS.build(
        dict(
            type='BigGANTeacher',
            generator={**copy.deepcopy(TEACHER), **changes},
            checkpoint=str(path),
        )
    )


def image(generator):
    noise, labels = every_class()
    with torch.no_grad():
        return generator(noise, label=labels)


def assert_same(images, expected):
    """Up to what another order of sums may change."""
    assert expected.std() > 0.1, 'a flat picture would prove nothing'
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


def save(path, generator, prefix, **more):
    state = {f'{prefix}{k}': v for k, v in generator.state_dict().items()}
    torch.save(dict(state_dict={**state, **more}), path)


@pytest.mark.parametrize(
    'prefix', ['generator_ema.module.', 'generator_ema.', 'generator.', '']
)
def test_loads_checkpoints_of_mmagic(prefix, generator, tmp_path):
    save(tmp_path / 't.pth', generator, prefix)
    assert_same(
        image(teacher_with(tmp_path / 't.pth').generator), image(generator)
    )


@pytest.mark.parametrize('prefix', ['generator_ema.module.', 'generator_ema.'])
def test_prefers_ema_weights(prefix, generator, tmp_path):
    raw = {
        f'generator.{k}': torch.zeros_like(v)
        for k, v in generator.state_dict().items()
    }
    raw['generator_ema.steps'] = torch.tensor(3)  # of the average, no weight
    save(tmp_path / 't.pth', generator, prefix, **raw)
    assert_same(
        image(teacher_with(tmp_path / 't.pth').generator), image(generator)
    )


def test_takes_the_generator_s_average_out_of_a_whole_gan(tmp_path):
    """With its discriminator, the raw generator and the count of steps."""
    gan = build_gan(teacher=None, pruning_loss=None, generator=TEACHER)
    for iteration in range(3):
        train_step(gan, iteration=iteration, lr=0.1)
    torch.save(dict(state_dict=gan.state_dict()), tmp_path / 'gan.pth')
    assert 'generator_ema.steps' in gan.state_dict()
    teacher = teacher_with(tmp_path / 'gan.pth').generator
    average = gan.generator_ema.module.eval()
    assert_same(image(teacher), image(average))
    assert (image(average) - image(gan.generator.eval())).abs().max() > 1e-3


def test_counts_of_batches_may_be_missing(generator, tmp_path):
    """Older versions of torch did not save them."""
    state = {
        k: v
        for k, v in generator.state_dict().items()
        if 'num_batches_tracked' not in k
    }
    assert len(state) < len(generator.state_dict())
    torch.save(state, tmp_path / 't.pth')
    assert_same(
        image(teacher_with(tmp_path / 't.pth').generator), image(generator)
    )


def to_biggan_pytorch(state, mybn, blocks=('0.0', '0.1', '1.0')):
    """Names as in ajbrock/BigGAN-PyTorch: BigGAN.py and layers.py. The one
    attention block of the test's generator follows block 0."""
    names = {str(i): f'blocks.{block}' for i, block in enumerate(blocks)}
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
                    'running', 'stored'
                )
            else:
                new = 'output_layer.0.' + parts[2].replace('weight', 'gain')
        else:
            new = key.replace('noise2feat', 'linear').replace(
                'shared_embedding', 'shared'
            )
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
    assert_same(
        image(teacher_with(tmp_path / 'G_ema.pth').generator), image(generator)
    )


def test_converts_biggan_pytorch_with_attention_anywhere(tmp_path):
    arch = dict(
        in_channels=[16, 16, 16],
        out_channels=[16, 16, 8],
        upsample=[True, True, True],
        resolution=[8, 16, 32],
        attention=[False, True, True],
    )
    config = dict(TEACHER, output_scale=32, arch_cfg=arch)
    generator = build_generator(config)
    blocks = ['0.0', '1.0', '1.1', '2.0', '2.1']
    torch.save(
        to_biggan_pytorch(generator.state_dict(), True, blocks),
        tmp_path / 'G_ema.pth',
    )
    teacher = teacher_with(tmp_path / 'G_ema.pth', **config)
    assert_same(image(teacher.generator), image(generator))


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
        r'1 keys unexpected \(extra.weight\)',
    ):
        teacher_with(tmp_path / 't.pth')


def test_of_many_keys_the_first_three_are_named_in_one_line(
    generator, tmp_path
):
    state = generator.state_dict()
    names = [k for k in state if 'num_batches_tracked' not in k]
    for name in names[:4]:
        del state[name]
    torch.save(state, tmp_path / 't.pth')
    with pytest.raises(PPCDError) as raised:
        teacher_with(tmp_path / 't.pth')
    message = str(raised.value)
    assert f'4 keys missing ({", ".join(names[:3])}, ...)' in message
    assert 'teacher checkpoint' in message and 'BigGANGenerator' in message
    assert '\n' not in message and 'unexpected' not in message
    torch.save(
        {k: v for k, v in generator.state_dict().items() if k not in names[:3]},
        tmp_path / 't.pth',
    )
    with pytest.raises(
        PPCDError,
        match=rf'3 keys missing \({names[0]}, '
        rf'{names[1]}, {names[2]}\)',
    ):
        teacher_with(tmp_path / 't.pth')


def test_other_shapes_are_named(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    with pytest.raises(
        ValueError,
        match=r'shape \(shared_embedding.weight \(5, 6\) '
        r'instead of \(9, 6\)',
    ):
        teacher_with(tmp_path / 't.pth', num_classes=9)


def test_a_failed_load_changes_nothing(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    other = build_generator(BIGGAN)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError):
        load_weights(other, str(tmp_path / 't.pth'), 'student')
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize('config', [SAGAN, BIGGAN])
def test_trained_generator_of_a_gan_s_config(config, tmp_path):
    """Its noise and classes from the GAN, its channels as removed."""
    generator = build_generator(config)
    prune(generator, 0.5)
    torch.save(generator.state_dict(), tmp_path / 'g.pth')
    bare = {
        k: v
        for k, v in config.items()
        if k not in ('noise_size', 'num_classes')
    }
    loaded = build_trained_generator(
        Config(
            dict(
                model=dict(
                    generator=bare, noise_size=NOISE, num_classes=CLASSES
                )
            )
        ),
        str(tmp_path / 'g.pth'),
        'student',
    )
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(image(loaded), image(generator))
    for _, mask in named_masks(loaded):
        assert mask.num_pruned == mask.channels // 2


def test_trained_generator_of_a_run_that_removed_channels(tmp_path):
    generator = build_generator(SAGAN)
    prune(generator, 0.5)
    shrink_channels(generator, example_inputs(generator))
    torch.save(generator.state_dict(), tmp_path / 'g.pth')
    loaded = build_trained_generator(
        Config(dict(model=dict(generator=SAGAN))),
        str(tmp_path / 'g.pth'),
        'student',
    )
    assert loaded.conv_blocks[0].conv_1.conv.weight_orig.shape == (8, 16, 3, 3)
    assert torch.equal(image(loaded), image(generator))


def test_the_teacher_s_mode_is_never_that_of_training(generator, tmp_path):
    save(tmp_path / 't.pth', generator, 'generator.')
    teacher = teacher_with(tmp_path / 't.pth')
    assert torch.nn.ModuleDict(dict(teacher=teacher)).train().training
    assert teacher.training
    assert not any(m.training for m in teacher.generator.modules())
    assert not any(p.requires_grad for p in teacher.generator.parameters())


def test_the_teacher_belongs_to_nobody_but_follows_to_where_it_goes():
    teacher = MODELS.build(dict(type='BigGANTeacher', generator=TEACHER))
    holder = torch.nn.ModuleDict(dict(teacher=teacher))
    assert not list(holder.parameters()) and not holder.state_dict()
    holder.double()
    tensors = [
        *teacher.generator.parameters(),
        *(b for b in teacher.generator.buffers() if b.is_floating_point()),
    ]
    assert tensors and all(t.dtype == torch.float64 for t in tensors)


def test_teacher_gives_the_features_and_images_of_its_generator(
    generator, tmp_path
):
    """As hooks of torch record them; nothing of it changes, or asks for
    gradients."""
    save(tmp_path / 't.pth', generator, 'generator.')
    teacher = teacher_with(tmp_path / 't.pth').train()
    before = copy.deepcopy(teacher.generator.state_dict())
    noise, labels = every_class()
    outputs = {}
    for index, block in enumerate(generator.conv_blocks):
        block.register_forward_hook(
            lambda block, args, out, index=index: outputs.update({index: out})
        )
    expected = image(generator)
    noise.requires_grad_()
    features = teacher(noise, label=labels)
    images = teacher.images(noise, labels)
    assert features.keys() == {8, 16}
    for size, index in ((8, 1), (16, 2)):
        assert outputs[index].shape[2:] == (size, size)
        assert_same(features[size], outputs[index])
    assert_same(images, expected)
    assert not any(t.requires_grad for t in [images, *features.values()])
    for key, value in teacher.generator.state_dict().items():
        assert torch.equal(value, before[key])


def test_class_map_says_which_of_the_teacher_s_classes_a_student_has(
    generator, tmp_path
):
    """In a list or in a file; labels by name or by place."""
    save(tmp_path / 't.pth', generator, 'generator.')
    (tmp_path / 'map.txt').write_text('4\n1\n')
    noise, mine, theirs = (
        every_class()[0][:3],
        torch.tensor([0, 1, 0]),
        torch.tensor([4, 1, 4]),
    )
    plain = teacher_with(tmp_path / 't.pth')
    for given in ([4, 1], str(tmp_path / 'map.txt')):
        teacher = MODELS.build(
            dict(
                type='GeneratorTeacher',
                generator=TEACHER,
                checkpoint=str(tmp_path / 't.pth'),
                class_map=given,
            )
        )
        assert torch.equal(
            teacher.images(noise, mine), plain.images(noise, theirs)
        )
        for features in (teacher(noise, mine), teacher(noise, label=mine)):
            for size, feature in plain(noise, label=theirs).items():
                assert torch.equal(features[size], feature)
        assert not teacher.state_dict()


def test_a_student_of_some_of_the_teacher_s_classes_needs_a_class_map():
    teacher = dict(type='GeneratorTeacher', generator=TEACHER)
    student = dict(
        generator=dict(SAGAN, num_classes=2),
        num_classes=2,
        discriminator=dict(DISCRIMINATOR, num_classes=2),
    )
    with pytest.raises(PPCDError, match='2 and the teacher 5.*class_map'):
        build_gan(teacher=teacher, **student)
    gan = build_gan(teacher=dict(teacher, class_map=[4, 1]), **student)
    losses = train_step(gan, data=batch(labels=(0, 1, 1, 0)))
    assert losses['loss_cd'] > 0


@pytest.mark.parametrize(
    'given, message',
    [
        ([0, 5], 'class_map has 5.*from 0 to 4'),
        ([-1], 'class_map has -1'),
        ([], 'class_map has no class'),
        (3, 'class_map=3 cannot be read'),
        ([1.5], '1.5 is no whole number'),
        ('missing.txt', 'class_map=.missing.txt. cannot be read'),
        (['cat'], 'cannot be read.*number a line'),
    ],
)
def test_a_class_map_that_does_not_fit_is_refused(given, message):
    with pytest.raises(PPCDError, match=message):
        MODELS.build(
            dict(type='GeneratorTeacher', generator=TEACHER, class_map=given)
        )


def test_teacher_s_layers_can_be_chosen():
    teacher = MODELS.build(
        dict(type='BigGANTeacher', generator=TEACHER, layers=['conv_blocks.0'])
    )
    seen = []
    teacher.generator.conv_blocks[0].register_forward_hook(
        lambda block, args, out: seen.append(out)
    )
    noise, labels = every_class()
    features = teacher(noise, label=labels)
    assert features.keys() == {8} and torch.equal(features[8], seen[0])


def test_features_by_resolution_are_those_after_attention(generator):
    noise, labels = every_class()
    with FeatureTap(generator, 'conv_blocks.*') as tap:
        generator(noise, label=labels)
    features = tap.by_resolution()
    assert {size: tuple(f.shape[1:]) for size, f in features.items()} == {
        8: (16, 8, 8),
        16: (8, 16, 16),
    }
    assert features[8] is tap.features['conv_blocks.1']


def test_a_pattern_stays_within_its_level():
    generator = build_generator(SAGAN)
    assert FeatureTap(generator, 'conv_blocks.*').names == [
        'conv_blocks.0',
        'conv_blocks.1',
        'conv_blocks.2',
    ]
    assert FeatureTap(generator, '*').names == [
        name for name, _ in generator.named_children()
    ]


def test_several_patterns_name_each_layer_once_in_the_network_s_order():
    generator = build_generator(SAGAN)
    assert FeatureTap(
        generator,
        ['to_rgb', 'conv_blocks.2', 'conv_blocks.0', 'conv_blocks.[01]'],
    ).names == ['conv_blocks.0', 'conv_blocks.1', 'conv_blocks.2', 'to_rgb']


def test_a_tap_starts_anew_each_time_and_ends_with_its_block(generator):
    noise, labels = every_class()
    tap = FeatureTap(generator, ['conv_blocks.0', 'conv_blocks.2'])
    with tap:
        generator(noise, label=labels)
    first = tap.features
    generator(noise[:1], label=labels[:1])
    assert {len(f) for f in tap.features.values()} == {CLASSES}
    with tap:
        assert tap.features == {}
    assert first.keys() == {'conv_blocks.0', 'conv_blocks.2'}


def test_a_tap_looks_through_a_wrapper_for_parallel_training(generator):
    wrapped = StandInForDDP(generator)
    noise, labels = every_class()
    with FeatureTap(wrapped, 'conv_blocks.0') as tap:
        wrapped(noise, label=labels)
    assert tap.names == ['conv_blocks.0']
    assert tap.by_resolution()[8].shape == (CLASSES, 16, 8, 8)


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


def test_the_teacher_is_moved_as_deep_as_it_is_asked():
    """As ``to_empty(recurse=False)`` does of a module that is sharded."""
    teacher = MODELS.build(dict(type='BigGANTeacher', generator=TEACHER))
    teacher.to_empty(device='meta', recurse=False)
    assert not any(p.is_meta for p in teacher.generator.parameters())
    teacher.to_empty(device='meta')
    assert all(p.is_meta for p in teacher.generator.parameters())


@MODELS.register_module()
class WithoutClasses(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 1)


def test_a_teacher_without_classes_has_none_to_map():
    with pytest.raises(PPCDError, match='class_map has 0: .*from 0 to -1'):
        MODELS.build(
            dict(
                type='GeneratorTeacher',
                generator=dict(type='WithoutClasses'),
                class_map=[0],
            )
        )


@pytest.mark.parametrize(
    'precision',
    ['bf16', pytest.param('fp16', marks=pytest.mark.needs_torch('2.6'))],
)
def test_a_teacher_computes_in_less_than_float32(precision):
    """Its images and features are float32 and nearly the same, and the
    student's are not touched."""
    torch.manual_seed(0)
    config = dict(type='GeneratorTeacher', generator=TEACHER)
    exact = MODELS.build(config)
    teacher = MODELS.build(dict(config, precision=precision))
    teacher.generator.load_state_dict(exact.generator.state_dict())
    noise, labels = every_class()
    kinds = []
    handle = teacher.generator.conv_blocks[0].register_forward_hook(
        lambda layer, args, out: kinds.append(out.dtype)
    )
    images, features = teacher.draw(noise, label=labels)
    handle.remove()
    assert kinds == [dict(bf16=torch.bfloat16, fp16=torch.float16)[precision]]
    expected, others = exact.draw(noise, label=labels)
    for value, other in [(images, expected)] + [
        (features[size], others[size]) for size in others
    ]:
        assert value.dtype == torch.float32
        assert not torch.equal(value, other)
        assert (value - other).abs().mean() < 0.02 * other.std()
    alike = teacher.images(noise, labels)
    torch.testing.assert_close(alike, images, rtol=0, atol=0)


def test_an_unknown_precision_is_refused():
    with pytest.raises(PPCDError, match="precision='int8'.*bf16.*fp16.*None"):
        MODELS.build(
            dict(type='GeneratorTeacher', generator=TEACHER, precision='int8')
        )


@pytest.mark.parametrize('style', ['ajbrock', 'torch'])
def test_what_never_changes_in_a_teacher_is_computed_once(style):
    """Spectral norm's weights are plain ones, and convolutions lie as is
    fastest; what it draws is tested above."""
    config = dict(TEACHER, sn_style=style)
    weights = dict(
        MODELS.build(
            dict(type='GeneratorTeacher', generator=config)
        ).generator.named_parameters()
    )
    plain = dict(build_generator(config).named_parameters())
    assert {name.replace('weight_orig', 'weight') for name in plain} == set(
        weights
    )
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last)
        for weight in weights.values()
        if weight.dim() == 4
    )
