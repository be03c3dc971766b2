"""Every config builds what it names, at its full size, without any file."""

import os.path as osp
import re
import sys
from functools import cache
from glob import glob
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from conftest import ROOT, config_path
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.visualization import Visualizer
from tool_calls import load_tool

from ppcd_mmagic.engine import config_problems, hooks_of
from ppcd_mmagic.registry import DATASETS, HOOKS, MODELS

CONFIGS = sorted(
    osp.basename(path).removesuffix('.py')
    for path in glob(osp.join(ROOT, 'configs', '[!_f]*', '*.py'))
)
FOLDERS = sorted(
    osp.dirname(path) for path in glob(osp.join(ROOT, 'configs', '*', '*.yml'))
)
CLASSIFIERS = [name for name in CONFIGS if name.startswith('classifier_')]
BUILT: dict = {}
GANS = [name for name in CONFIGS if name not in CLASSIFIERS]


@cache
def built(name):
    """Config and model, without values."""
    config = Config.fromfile(config_path(name))
    if config.model.get('teacher'):
        config.model.teacher.checkpoint = None
    # readers of masks are found by a forward pass, which needs values;
    # test_full_size.py has one
    with (
        torch.device('meta'),
        patch('ppcd_mmagic.models.ppres_generators.link_masks'),
        patch('ppcd_mmagic.models.ppres_generators.mask_channels'),
        patch('ppcd_mmagic.models.ppres_generators.example_inputs'),
    ):
        # many configs differ in their hooks alone
        key = repr(config.model.to_dict())
        if key not in BUILT:
            BUILT[key] = MODELS.build(config.model)
        return config, BUILT[key]


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds(name):
    config, model = built(name)
    Visualizer.get_instance('test_configs')  # some hooks ask for one
    for hook in hooks_of(config).values():
        HOOKS.build(hook)
    assert DATASETS.get(config.train_dataloader.dataset.type) is not None
    if name in GANS:
        assert model.generator.num_classes == config.num_classes
        resolution = next(
            (
                size
                for word, size in dict(
                    digits=16, cifar10_16=16, cifar10_32=32, folder=64
                ).items()
                if word in name
            ),
            128,
        )
        assert model.generator.output_scale == resolution


# learning rates of generator and discriminator
RATES = dict(
    digits=(5e-4, 2e-3),
    biggan_cifar10_16=(2e-4, 4e-4),
    cifar10_16=(5e-4, 1e-3),
    cifar10_32=(2e-4, 2e-4),
    folder=(2e-4, 4e-4),
    full=(1e-4, 4e-4),
)


def rates(name):
    return next(
        (rate for word, rate in RATES.items() if word in name), RATES['full']
    )


def groups(optimizer):
    """Settings of each parameter's group, by parameter."""
    found = [
        (parameter, group)
        for group in optimizer.param_groups
        for parameter in group['params']
    ]
    settings = dict(found)
    assert len(settings) == len(found), 'a parameter in two groups'
    return settings


@pytest.mark.parametrize('name', GANS)
def test_each_optimizer_has_its_network_and_nothing_else(name):
    config, model = built(name)
    wrappers = build_optim_wrapper(model, config.optim_wrapper)
    assert set(wrappers.keys()) == {'generator', 'discriminator'}
    # as in MMagic's SAGAN for CIFAR-10; its BigGAN has 0
    first = 0.5 * ('cifar10_32' in name and 'biggan' not in name)
    for part, rate in zip(('generator', 'discriminator'), rates(name)):
        settings = groups(wrappers[part].optimizer)
        network = dict(getattr(model, part).named_parameters())
        assert set(settings) == set(network.values())
        assert type(wrappers[part].optimizer) is torch.optim.Adam
        for key, parameter in network.items():
            group = settings[parameter]
            is_score = part == 'generator' and '.mask.' in key
            expected = 10 * rate if is_score else rate
            assert group['lr'] == pytest.approx(expected), key
            # a decay would pull scores to zero by itself, beside L_PP
            assert group['weight_decay'] == 0, key
            assert group['betas'] == (first, 0.999), key


@pytest.mark.parametrize(
    'name, scores',
    [
        ('ppcd_digits_16_alpha06', 6),
        ('ppcd_folder', 12),
        ('ppcd_biggan_128_alpha06', 15),
        ('gan_compression_digits_16', 4),
        ('gan_compression_imagenet_128', 10),
        ('ppcd_digits_16_dense', 0),
        ('biggan_imagenet_128', 0),
    ],
)
def test_scores_of_every_mask_learn_ten_times_faster(name, scores):
    """Three convolutions a block, of which two share a mask where it says so;
    two blocks at 16 px, four at 64 and five at 128."""
    config, model = built(name)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)[
        'generator'
    ].optimizer
    rate, _ = rates(name)
    faster = [
        parameter
        for parameter, group in groups(optimizer).items()
        if group['lr'] == pytest.approx(10 * rate)
    ]
    assert len(faster) == scores
    assert all(parameter.dim() == 1 for parameter in faster)


@pytest.mark.parametrize('size', [32, 64, 128])
def test_own_pictures_are_drawn_in_the_size_that_is_asked_for(
    size, monkeypatch
):
    monkeypatch.setenv('SIZE', str(size))
    config = Config.fromfile(config_path('ppcd_plus_folder'))
    for part in (
        config.model.generator,
        config.model.teacher.generator,
        config.model.discriminator.discriminator,
    ):
        part.base_channels = 8
    config.model.teacher.checkpoint = None
    model = MODELS.build(config.model)
    labels = torch.tensor([0, 1])
    images = model.generator(torch.randn(2, model.noise_size), label=labels)
    assert images.shape == (2, 3, size, size)
    assert model.teacher.generator.output_scale == size
    assert model.discriminator(images, labels).shape == (2, 1)
    (resize,) = (
        step
        for step in config.train_dataloader.dataset.pipeline
        if step.type == 'Resize'
    )
    assert resize.scale == (size, size)
    # a judge would take pictures of another size without a word
    kept = [config.work_dir, config.val_evaluator.metrics[0].checkpoint]
    config = Config.fromfile(config_path('ppcd_folder'))
    kept += [config.work_dir, config.model.teacher.checkpoint]
    for name in ('biggan_folder', 'classifier_folder'):
        kept.append(Config.fromfile(config_path(name)).work_dir)
    assert all(path.split('/')[1].endswith(f'_{size}') for path in kept)
    assert len({path.split('/')[1] for path in kept}) == 4


def test_a_size_that_no_generator_has_is_refused(monkeypatch):
    monkeypatch.setenv('SIZE', '48')
    for name in ('classifier_folder', 'biggan_folder'):
        with pytest.raises(ValueError, match='must be 32, 64 or 128'):
            Config.fromfile(config_path(name))


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifier_has_one_optimizer_with_weight_decay(name):
    config, model = built(name)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    settings = groups(optimizer)
    assert set(settings) == set(model.parameters())
    assert {
        (group['lr'], group['weight_decay']) for group in settings.values()
    } == {(2e-3 if 'cifar10' in name else 1e-3, 1e-4)}


@pytest.mark.parametrize('name', GANS)
def test_nothing_frozen_or_averaged_is_trained(name):
    config, model = built(name)
    wrappers = build_optim_wrapper(model, config.optim_wrapper)
    trained = {
        parameter
        for part in wrappers.keys()
        for group in wrappers[part].optimizer.param_groups
        for parameter in group['params']
    }
    for part in ('teacher', 'generator_ema'):
        network = getattr(model, part, None)
        if network is not None:
            assert trained.isdisjoint(network.parameters()), part


# alpha, schedule, interval, begin, end of what prunes, and the iterations
PRUNING = {
    'ppcd_digits_16_alpha00': (0.0, 'cubic', 1, 100, 500, 800),
    'ppcd_digits_16_alpha05': (0.5, 'cubic', 1, 100, 500, 800),
    'ppcd_digits_16_alpha06': (0.6, 'cubic', 1, 100, 500, 800),
    'ppcd_digits_16_threshold_alpha06': (0.6, 'threshold', 1, 100, 500, 800),
    'ppcd_cifar10_16_threshold_alpha06': (0.6, 'threshold', 1, 200, 900, 1500),
    'ppcd_digits_16_irrelevant_alpha05': (0.5, 'cubic', 1, 100, 500, 800),
    'ppcd_digits_16_star_alpha06': (0.6, 'linear', 1, 0, 1, 400),
    'ppcd_plus_digits_16': (0.6, 'cubic', 1, 100, 500, 800),
    **{
        f'ppcd_{name}': (alpha, 'cubic', *window)
        for size, window in {
            16: (1, 200, 900, 1500),
            32: (100, 10000, 250000, 500000),
        }.items()
        for name, alpha in {
            f'cifar10_{size}_alpha00': 0.0,
            f'cifar10_{size}_alpha05': 0.5,
            f'cifar10_{size}_alpha06': 0.6,
            f'cifar10_{size}_irrelevant_alpha05': 0.5,
            f'plus_cifar10_{size}': 0.6,
        }.items()
    },
    'ppcd_cifar10_16_star_alpha06': (0.6, 'linear', 1, 0, 1, 750),
    'ppcd_cifar10_32_star_alpha06': (0.6, 'linear', 100, 0, 1, 250000),
    'ppcd_plus_imagenet_128': (0.6, 'cubic', 100, 20000, 500000, 1000000),
    'ppcd_folder': (0.6, 'cubic', 50, 2000, 25000, 50000),
    'ppcd_plus_folder': (0.6, 'cubic', 50, 2000, 25000, 50000),
    'ppcd_biggan_128_alpha00': (0.0, 'cubic', 100, 20000, 500000, 1000000),
    'ppcd_biggan_128_alpha05': (0.5, 'cubic', 100, 20000, 500000, 1000000),
    'ppcd_biggan_128_alpha06': (0.6, 'cubic', 100, 20000, 500000, 1000000),
    'ppcd_biggan_128_irrelevant_alpha05': (
        0.5,
        'cubic',
        100,
        20000,
        500000,
        1000000,
    ),
    'ppcd_biggan_deep_128_alpha06': (0.6, 'cubic', 100, 20000, 500000, 1000000),
    'ppcd_biggan_128_star_alpha06': (0.6, 'linear', 100, 0, 1, 500000),
}


@pytest.mark.parametrize('name', GANS)
def test_what_prunes_and_when(name):
    config, _ = built(name)
    found = [
        HOOKS.build(hook)
        for hook in hooks_of(config).values()
        if hook['type'] == 'MaskBinarizationHook'
    ]
    assert [
        (
            hook.alpha,
            hook.schedule,
            hook.interval,
            hook.begin,
            hook.end,
            config.train_cfg.max_iters,
        )
        for hook in found
    ] == ([PRUNING[name]] if name in PRUNING else [])


@pytest.mark.parametrize('name', GANS)
def test_irrelevant_controls_are_the_only_ones_that_change_the_class(name):
    _, model = built(name)
    assert model.class_aware is ('irrelevant' not in name)


@pytest.mark.parametrize('name', GANS)
def test_seeds_are_set_at_every_iteration(name):
    config, _ = built(name)
    kinds = [hook['type'] for hook in hooks_of(config).values()]
    assert kinds.count('IterSeedHook') == 1
    assert config.randomness.seed is not None
    assert config.randomness.diff_rank_seed


@pytest.mark.parametrize(
    'name, values',
    [
        (
            'ppcd_digits_16_alpha06',
            {
                'mask_binarization.alpha': 0.9,
                'mask_binarization.schedule': 'linear',
                'mask_binarization.interval': 7,
                'mask_binarization.budget.multiply_adds': 0.5,
            },
        ),
        ('gan_compression_digits_16', {'once_for_all.budget': 0.5}),
        ('biggan_digits_16', {'visualization.interval': 7}),
    ],
)
def test_hooks_are_changed_by_their_names_on_the_command_line(
    name, values, monkeypatch
):
    options = [f'default_hooks.{key}={value}' for key, value in values.items()]
    monkeypatch.setattr(
        sys, 'argv', ['', config_path(name), '--cfg-options', *options]
    )
    train = load_tool('train')
    config = train.load_config(train.parse_args())
    assert config_problems(config) == []
    Visualizer.get_instance('test_configs')
    for key, value in values.items():
        hook, setting, *inner = key.split('.')
        found = getattr(HOOKS.build(config.default_hooks[hook]), setting)
        assert (found[inner[0]] if inner else found) == value


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_config_is_described_where_it_lies(folder):
    readme = Path(folder, 'README.md').read_text()
    rows = re.findall(r'^\| `(\w+\.py)` \|', readme.split('## What')[0], re.M)
    assert sorted(rows) == sorted(
        path.name for path in Path(folder).glob('*.py')
    )
    for part in ('## What they need', '## Train'):
        assert part in readme


def test_no_two_configs_have_the_same_folder_of_results():
    """``tools/train.py`` names it after the config."""
    names: dict = {}
    for path in sorted(glob(osp.join(ROOT, 'configs', '[!_]*', '*.py'))):
        names.setdefault(osp.basename(path), []).append(path)
    assert not {name for name, paths in names.items() if len(paths) > 1}
