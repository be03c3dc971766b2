"""What a config cannot mean is said before anything is built."""

import re

import pytest
from conftest import config_path
from mmengine.config import Config
from runs import tiny_config

from ppcd_mmagic import PPCDError
from ppcd_mmagic.engine import config_problems, merge_options, settings_of


def problems(**options):
    return config_problems(tiny_config('unused', **options))


@pytest.mark.parametrize(
    'options, what',
    [
        (dict(model__class_aware='no'), "'no' must be True or False"),
        (dict(model__distill_layer='x'), 'PPCDGAN has no such setting'),
        (dict(model__pruning_loss__loss_weight='0.1'), 'must be a number'),
        (dict(model__pruning_loss__loss_weight=-1), 'at least 0'),
        (
            dict(default_hooks__mask_binarization__alpha='0.5'),
            "alpha='0.5' must be a number",
        ),
        (
            dict(default_hooks__mask_binarization__alfa=0.5),
            'MaskBinarizationHook has no such',
        ),
        (
            dict(default_hooks__mask_binarization__end=7),
            r'end=7 is beyond the end .*max_iters=6',
        ),
        (
            dict(
                default_hooks__mask_binarization__begin=7,
                default_hooks__mask_binarization__end=None,
            ),
            'begin=7 is beyond the end',
        ),
        (dict(train_cfg__max_iters=0), 'max_iters=0 must be a whole number of'),
        (
            dict(train_cfg__max_iters=2.5),
            'max_iters=2.5 must be a whole number',
        ),
        (dict(train_cfg__val_interval='x'), "val_interval='x' must be"),
        (dict(train_dataloader__batch_size=0), 'batch_size=0'),
        (dict(train_dataloader__num_workers=-1), 'num_workers=-1'),
        (dict(train_dataloader__dataset__size=32), '32 px, but the generator'),
        (dict(optim_wrapper__generator__optimizer__lr='fast'), "lr='fast'"),
        (dict(optim_wrapper__generator__optimizer__lr=-1), 'lr=-1'),
        (dict(default_hooks__finite_guard__patience='x'), "patience='x'"),
        (dict(default_hooks__stop_signal__grace=1), 'StopSignalHook.*has none'),
        (
            dict(optim_wrapper__generator__optimizer__type='Adma'),
            'there is no part called Adma',
        ),
        (dict(model__teacher__checkpoint=5), 'checkpoint=5 must be a text'),
        (
            dict(default_hooks__mask_binarization__schedule=3),
            'schedule=3 must be a text',
        ),
        (dict(model__data_preprocessor__type='x.Y'), 'no part called x.Y'),
        # parts of others, by their annotations or defaults
        (
            dict(default_hooks__checkpoint__by_epoch='no'),
            'must be True or False',
        ),
        (dict(default_hooks__checkpoint__interval='x'), "interval='x' must be"),
        (
            dict(model__ema_config__momentum='x'),
            "momentum='x' must be a number",
        ),
        (dict(log_processor__by_epoch='no'), 'must be True or False'),
        (dict(randomness__diff_rank_seed='no'), 'must be True or False'),
        (dict(randomness__seed='x'), "seed='x' must be a number"),
        (
            dict(model__discriminator__discriminator__input_scale=0),
            'input_scale=0',
        ),
        (
            dict(train_dataloader__dataset__size='x'),
            "size='x' must be a number",
        ),
    ],
)
def test_one_line_for_what_is_wrong(options, what):
    (problem,) = problems(**options)
    assert re.search(what, problem), problem


def test_a_hook_given_twice():
    config = tiny_config('unused')
    config.custom_hooks = [
        dict(type='ppcd_mmagic.MaskBinarizationHook', alpha=0.5)
    ]
    (problem,) = config_problems(config)
    assert 'default_hooks.mask_binarization, custom_hooks.0' in problem


def test_a_setting_of_a_hook_that_is_not_there():
    (problem,) = problems(default_hooks__mask_binarisation__alpha=0.5)
    assert problem.startswith('default_hooks.mask_binarisation=')
    assert 'there are: default_hooks.timer, ' in problem


def test_where_hooks_stand_does_not_count():
    named, listed = tiny_config('unused'), tiny_config('unused')
    hooks = listed.default_hooks
    listed.custom_hooks = [
        hooks.pop('mask_binarization'),
        hooks.pop('iter_seed'),
    ]
    listed.experiment_name = named.experiment_name
    assert settings_of(listed) == settings_of(named)
    listed.custom_hooks[0].alpha = 0.5
    assert settings_of(listed) != settings_of(named)


def test_a_config_that_trains_nothing_is_one_line():
    (problem,) = config_problems(Config(dict(a=1)))
    assert problem.startswith(
        'this is no config to train, it has no model, train_dataloader, '
    )


@pytest.mark.parametrize(
    'name, value',
    [
        ('model', 5),
        ('model.generator', 'SAGAN'),
        ('custom_hooks.9.alpha', 1),
        ('custom_hooks.last.alpha', 1),
        ('param_scheduler.0.begin', 1),
        ('max_iters', 1),
        ('ppcd.mask_binarization.alpha', 0.5),
        ('pruning.alpha', 0.5),
        ('train_cfg.max_iters.deep', 1),
        ('model', None),
    ],
)
def test_a_setting_without_a_place_is_refused(name, value):
    with pytest.raises(PPCDError, match='mine.py'):
        merge_options(tiny_config('unused'), {name: value}, 'mine.py')


def test_a_part_can_be_left_out():
    config = tiny_config('unused')
    merge_options(config, {'model.teacher': None}, 'mine.py')
    assert config.model.teacher is None


@pytest.mark.parametrize(
    'name',
    [
        'biggan_folder',
        'classifier_digits_16',
        'gan_compression_digits_16',
        'ppcd_biggan_128_star_alpha06',
        'ppcd_digits_16_star_alpha06',
        'sagan_digits_16',
        'tinygan_imagenet_128',
    ],
)
def test_nothing_is_wrong_with_the_configs_of_the_package(name):
    config = Config.fromfile(config_path(name))
    assert config_problems(config) == []


def test_names_of_the_settings_of_others_are_not_judged():
    """They may pass them on; what they refuse, building tells."""
    assert problems(model__data_preprocessor__whatever=1) == []


def test_all_pictures_of_a_metric_of_mmagic_are_minus_one():
    assert (
        problems(
            val_evaluator__metrics=[
                dict(type='FrechetInceptionDistance', fake_nums=-1)
            ]
        )
        == []
    )
