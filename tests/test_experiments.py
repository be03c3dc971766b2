"""The commands that reproduce tables and figures."""

import argparse
import json
import os
import os.path as osp
import subprocess
import sys
from glob import glob
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from painting import COLOURS, Painter
from test_training import ENV

from ppcd_mmagic import experiments
from ppcd_mmagic.channels import discard_channels, named_masks
from ppcd_mmagic.checkpoints import build_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.experiments import Run, train_all
from ppcd_mmagic.generators import example_inputs

sys.path.insert(0, osp.join(ROOT, 'tools'))
import ablation  # noqa: E402
import alpha_sweep  # noqa: E402
import baselines  # noqa: E402
import pruning_rules  # noqa: E402
import table_a  # noqa: E402


def arguments(**changes):
    return argparse.Namespace(
        **{
            **dict(
                data='digits_16',
                seeds=[0],
                max_iters=40,
                alphas=[0.5, 0.8],
                cfg_options={},
                root='runs',
            ),
            **changes,
        }
    )


def runs_of(tool, args):
    return experiments.make_runs(
        experiments.read_lines(tool.LINES, args.data), args
    )


def test_runs_of_a_table_do_not_share_a_folder():
    args = arguments(seeds=[0, 1])
    star = baselines.pruned_afterwards(args, 40)
    starts = [run.start for run in star]
    for runs in (
        runs_of(table_a, args),
        runs_of(baselines, args) + star + starts,
        sum(
            (
                alpha_sweep.sweep_after_training(args, method)
                for method in alpha_sweep.AFTER_TRAINING
            ),
            [],
        ),
    ):
        folders = [run.work_dir for run in runs]
        assert len(set(folders)) == len(folders), folders


@pytest.mark.parametrize('data', experiments.STUDENTS)
@pytest.mark.parametrize('tool', [table_a, baselines])
def test_every_line_has_a_config_for_every_data_set(tool, data):
    for name, config in experiments.read_lines(tool.LINES, data).items():
        assert config.model.generator, name


@pytest.mark.parametrize('length', [800, 400, 7, 1])
def test_shorter_trainings_keep_the_proportions_of_their_schedules(length):
    config = experiments.read_config('ppcd_gan/ppcd_digits_16_alpha06.py')
    short = experiments.shorten(config, length)
    assert short.train_cfg.max_iters == length
    assert short.param_scheduler.begin == round(length / 2)
    assert short.param_scheduler.end == length
    hook = short.default_hooks.mask_binarization
    assert hook.begin == round(length / 8)
    assert hook.begin < hook.end <= max(round(length * 5 / 8), hook.begin + 1)
    assert config.train_cfg.max_iters == 800, 'the original stays'


def test_shorter_trainings_average_over_as_much_of_themselves():
    config = experiments.read_config('ppcd_gan/ppcd_biggan_128_alpha06.py')
    before = config.model.ema_config.copy()
    tenth, hundredth, last = (
        experiments.shorten(config, config.train_cfg.max_iters // part)
        for part in (10, 100, 100000)
    )
    assert tenth.model.ema_config.momentum == pytest.approx(
        10 * before.momentum
    )
    assert hundredth.model.ema_config.start_iter == before.start_iter // 100
    assert last.model.ema_config.momentum == 0.5
    assert config.model.ema_config == before, 'the original stays'


def test_an_experiment_without_a_config_for_its_data_says_so():
    args = arguments(
        data='cifar10_32', alpha=0.6, rules=['threshold'], masks='shared'
    )
    with pytest.raises(PPCDError, match='does not exist.*another --data'):
        pruning_rules.runs_by_alpha(args)


def test_pruning_after_training_starts_from_the_unpruned_run_of_its_seed():
    for method in alpha_sweep.AFTER_TRAINING:
        for run in alpha_sweep.sweep_after_training(
            arguments(seeds=[0, 1]), method
        ):
            hook, before = (
                r.config.default_hooks.mask_binarization
                for r in (run, run.start)
            )
            assert (hook.alpha, before.alpha) == (run.label['alpha'], 0)
            assert run.seed == run.start.seed
            assert run.config.train_cfg.max_iters == 20
            assert run.start.config.train_cfg.max_iters == 40
            has_teacher = run.config.model.get('teacher') is not None
            assert has_teacher == (method == 'PPCD-GAN*')


def test_each_line_of_the_ablation_changes_one_part():
    whole, *others = ablation.lines_of(
        arguments(lines=list(ablation.CHANGES))
    ).values()
    losses, *others_losses = (
        {loss.type: loss.loss_weight for loss in line.model.distillation_loss}
        for line in (whole, *others)
    )
    pixels, features = (
        {'PixelDistillationLoss': 10},
        {'DiscriminatorFeatureLoss': 1},
    )
    assert losses == {**pixels, **features}
    assert others_losses == [
        {'AttentionDistillationLoss': 10, **losses},
        features,
        pixels,
        losses,
        losses,
        losses,
    ]
    reals = [other.model.teacher_as_real for other in others]
    assert reals == [1, 1, 1, 0, 1, 1]
    generators = [config.model.generator for config in (whole, *others)]
    assert [generator.residual_masks for generator in generators] == [
        *5 * ['shared'],
        'independent',
        'shared',
    ]
    linears = [len(generator.masked_linears) for generator in generators]
    assert linears == [1, 1, 1, 1, 1, 1, 0]


def test_options_of_the_command_line_mean_the_same_in_each_line_of_an_ablation():
    lines = ablation.lines_of(
        arguments(
            lines=list(ablation.CHANGES),
            cfg_options={'model.distillation_loss.0.loss_weight': 77.0},
        )
    )
    for line in lines.values():
        weights = {
            loss.type: loss.loss_weight for loss in line.model.distillation_loss
        }
        assert weights.get('PixelDistillationLoss', 77.0) == 77.0
        assert 77.0 not in (
            weights.get('AttentionDistillationLoss'),
            weights.get('DiscriminatorFeatureLoss'),
        )


def test_the_sweep_compares_its_first_method_with_the_others_at_every_alpha():
    args = arguments(seeds=[0, 1])
    runs = alpha_sweep.sweep(args, 'shared')
    for method in ('PPCD-GAN*', 'SA-GAN'):
        runs += alpha_sweep.sweep_after_training(args, method)
    assert alpha_sweep.compared(runs) == [
        (f'shared, alpha {alpha}', f'{method}, alpha {alpha}')
        for method in ('PPCD-GAN*', 'SA-GAN')
        for alpha in args.alphas
    ]


def test_students_by_rule_differ_in_the_rule_and_in_what_it_needs():
    args = arguments(alpha=0.7, rules=list(pruning_rules.RULES), masks='shared')
    cubic, threshold = (run.config for run in pruning_rules.runs_by_alpha(args))
    hooks = [c.default_hooks.mask_binarization for c in (cubic, threshold)]
    assert [hook.schedule for hook in hooks] == ['cubic', 'threshold']
    assert {hook.alpha for hook in hooks} == {0.7}
    assert threshold.model.generator.residual_masks == 'shared'
    for config in (cubic, threshold):
        del config.default_hooks.mask_binarization.schedule
        del config.model.pruning_loss.loss_weight
    assert cubic.pretty_text == threshold.pretty_text


def test_budgets_are_the_size_of_the_export_of_the_same_seed(monkeypatch):
    args = arguments(
        alpha=0.7,
        cap=0.9,
        seeds=[0, 2],
        rules=['cubic'],
        budgets=['multiply_adds', 'parameters'],
        masks='independent',
    )
    others = pruning_rules.runs_by_alpha(args)

    def exported(run):
        torch.manual_seed(run.seed)  # which fall decides over the size
        generator = build_generator(run.config)
        for _, mask in named_masks(generator):
            mask.weight.data.uniform_()
            mask.prune(int(0.7 * mask.channels))
        return discard_channels(generator, example_inputs(generator))

    monkeypatch.setattr(Run, 'generator', exported)
    runs = pruning_rules.runs_of_same_size(args, others)
    assert [(run.name, run.seed) for run in runs] == [
        ('budget, same multiply-adds', 0),
        ('budget, same multiply-adds', 2),
        ('budget, same parameters', 0),
        ('budget, same parameters', 2),
    ]
    budgets = [r.config.default_hooks.mask_binarization for r in runs]
    sizes = [sum(p.numel() for p in exported(r).parameters()) for r in others]
    assert [hook.budget for hook in budgets[2:]] == [
        dict(parameters=size) for size in sizes
    ]
    assert sizes[0] != sizes[1]
    assert budgets[0].budget['multiply_adds'] > sizes[0]
    assert {hook.alpha for hook in budgets} == {0.9}


def test_a_table_says_how_long_its_runs_were():
    args = arguments(seeds=[0, 2, 5], lines=['Tiny-GAN', 'PPCD-GAN*'])
    (tiny,) = [r for r in runs_of(baselines, args) if r.name == 'Tiny-GAN'][:1]
    assert experiments.runs_in_words([tiny]) == (
        'Seed 0 alone. 40 iterations each.'
    )
    args.max_iters = None
    star = baselines.pruned_afterwards(args, 40)
    assert experiments.runs_in_words(star) == (
        'Mean and standard deviation over 3 seeds. 40 iterations each; those '
        'that are pruned after training 20 more, of fine-tuning.'
    )
    other = arguments(max_iters=30)
    assert ' 30 or 40 iterations each' in experiments.runs_in_words(
        [*star, *runs_of(baselines, other)]
    )


def test_a_table_names_the_configs_that_it_is_of():
    runs = runs_of(baselines, arguments(max_iters=None, seeds=[5]))
    named = experiments.own_configs(runs)
    assert set(named) == set(baselines.LINES)
    assert named['Tiny-GAN'] == 'tinygan/tinygan_digits_16.py'
    first, *others = runs
    first.config.model.distillation_loss.loss_weight = 3.0
    others[0].config.train_cfg.max_iters = 3
    left = experiments.own_configs(runs)
    assert set(named) - set(left) == {first.name, others[0].name}
    assert not experiments.own_configs(runs_of(baselines, arguments()))
    # as long as most of them are, and judged at the end alone
    equal = experiments.own_configs(
        runs_of(baselines, arguments(max_iters=800))
    )
    assert set(named) - set(equal) == {'Big-GAN'}


def test_options_of_the_teacher_are_for_those_that_have_one():
    args = arguments(cfg_options={'model.teacher.checkpoint': 'mine.pth'})
    for run in runs_of(baselines, args):
        teacher = run.config.model.get('teacher')
        if run.name in ('Big-GAN', 'SA-GAN', 'SN-GAN'):
            assert teacher is None
        else:
            assert teacher.checkpoint == 'mine.pth'


def test_table_shows_mean_and_sample_deviation():
    values = [0.25, 0.5, 1.5]
    table = experiments.table_of(
        {'one': [{'domain/frechet': v, 'parameters': 1200} for v in values]}
    )
    assert table == [
        ['', 'frechet', 'parameters'],
        [
            'one',
            f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}',
            '1,200',
        ],
    ]


def test_a_table_is_written_as_it_is_printed(tmp_path, capsys):
    found = {
        'a': [{'domain/frechet': 1.5, 'parameters': 1234567}],
        'long name': [{'domain/frechet': 12.25, 'parameters': 8}],
    }
    table = experiments.Table('Title', 'A note.', found)
    experiments.save_table(table, str(tmp_path / 'new'))
    text = (tmp_path / 'new' / 'table.md').read_text()
    assert text.splitlines() == [
        '# Title',
        '',
        '|           | frechet | parameters |',
        '| --------- | ------- | ---------- |',
        '| a         | 1.500   | 1,234,567  |',
        '| long name | 12.250  | 8          |',
        '',
        'A note.',
    ]
    assert '| a         | 1.500   | 1,234,567  |' in capsys.readouterr().out
    kept = experiments.read_table(str(tmp_path / 'new' / 'results.json'))
    assert kept.results == found
    assert kept.markdown() in text


def test_differences_are_those_of_the_same_seed():
    """By hand: of differences 1, 2 and 3 the mean is 2, its standard error
    1 / sqrt(3), and t = 2 sqrt(3) with two degrees of freedom."""
    difference = experiments.paired_difference([2, 4, 6], [1, 2, 3])
    assert difference.mean == pytest.approx(2)
    assert difference.error == pytest.approx(3**-0.5)
    t = 2 * 3**0.5
    assert difference.p == pytest.approx(1 - t / (2 + t**2) ** 0.5)
    assert experiments.paired_difference([2, 3], [1, 2]).p is None


def test_a_table_shows_the_differences_that_it_is_asked_for():
    lines = {
        'one': [{'kid': 1.0, 'parameters': 9}, {'kid': 2.0, 'parameters': 9}],
        'other': [{'kid': 0.5, 'parameters': 9}, {'kid': 1.0, 'parameters': 9}],
    }
    pairs = [('one', 'other'), ('one', 'absent')]
    text = experiments.Table('', 'A note.', lines, pairs).markdown()
    assert '| one minus other | +0.750 ± 0.250 (p 0.2) |' in text
    assert 'absent' not in text
    single = {name: metrics[:1] for name, metrics in lines.items()}
    assert 'minus' not in experiments.Table('', '', single, pairs).markdown()


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        '{"title": ""}',
        '{"a": 1}',
        '{"title": "", "note": "", "results": 5}',
    ],
)
def test_what_is_no_table_is_refused(content, tmp_path):
    path = tmp_path / 'results.json'
    path.write_text(content)
    with pytest.raises(PPCDError, match='is no results.json'):
        experiments.read_table(str(path))
    with pytest.raises(PPCDError, match='is no results.json'):
        experiments.read_table(str(tmp_path / 'absent.json'))


class Painted:
    """Stands in for a run whose generator paints red, green and blue."""

    name = 'painter'
    config = Config()  # its data do not tell what classes are called

    def generator(self):
        return Painter(dots=False)


def test_pictures_of_a_run_are_class_by_class():
    images = experiments.images_of(Painted(), per_class=2)
    assert torch.equal(images[:, :, 0, 0], COLOURS.repeat_interleave(2, 0))
    few = experiments.images_of(Painted(), per_class=1, max_classes=2)
    assert torch.equal(few[:, :, 0, 0], COLOURS[:2])


def test_all_runs_are_drawn_with_the_same_noise():
    one, other = (experiments.images_of(run, 2) for run in (Dotted(), Dotted()))
    assert torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


class Dotted(Painted):
    def generator(self):
        torch.randn(5)  # as building one may
        return Painter()


def columns_of_colours(path):
    """Mean places, across and down, of the red, green and blue pixels."""
    picture = cv2.imread(str(path))[..., ::-1]
    return [
        np.argwhere((picture == rgb).all(-1)).mean(0)
        for rgb in ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    ]


def test_classes_are_rows_of_the_pictures_and_keep_their_colours(tmp_path):
    experiments.draw_pictures([Painted()], str(tmp_path / 'p.png'), columns=2)
    red, green, blue = columns_of_colours(tmp_path / 'p.png')
    assert red[0] < green[0] < blue[0]
    assert red[1] == pytest.approx(green[1], abs=1)


def test_classes_are_columns_of_the_picture_table(tmp_path):
    experiments.draw_picture_table(
        {'row': {'column': Painted()}}, str(tmp_path / 't.png')
    )
    red, green, blue = columns_of_colours(tmp_path / 't.png')
    assert red[1] < green[1] < blue[1]
    assert red[0] == pytest.approx(green[0], abs=1)


def dense_runs(root, *names):
    config = experiments.read_config('sagan/sagan_digits_16.py')
    config.val_evaluator.metrics = []
    config.test_evaluator.metrics = []
    return [experiments.Run(name, config, 0, str(root)) for name in names]


def test_what_is_wrong_with_the_last_run_is_said_before_the_first(tmp_path):
    good, bad = dense_runs(tmp_path, 'good', 'bad')
    bad.config = experiments.read_config('ppcd_gan/ppcd_digits_16_alpha06.py')
    bad.config.model.teacher.checkpoint = 'absent.pth'
    with pytest.raises(PPCDError, match='^bad: teacher checkpoint not found'):
        experiments.run_all([good, bad], 1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    'options, message',
    [
        ({'test_evaluator.metrics': [dict(type='Nothing')]}, 'Nothing'),
        ({'test_dataloader.batch_size': 0}, 'test_dataloader.batch_size'),
        (
            {
                'test_evaluator.metrics': [
                    dict(
                        type='DomainMetric',
                        checkpoint='absent.pth',
                        fake_nums=1,
                    )
                ]
            },
            'classifier of DomainMetric not found',
        ),
        ({'default_hooks.mask_binarisation.interval': 2}, 'is no hook'),
    ],
)
def test_what_runs_are_tested_with_is_looked_at_before_the_first(
    options, message, tmp_path
):
    (run,) = dense_runs(tmp_path, 'one')
    run.config.merge_from_dict(options)
    experiments.set_alpha(run.config, 0.5)
    with pytest.raises(PPCDError, match=f'^one: .*{message}'):
        experiments.run_all([run], 1)
    assert not any(tmp_path.iterdir())


def test_a_root_that_is_read_only_is_refused_before_a_judge_is_trained(
    tmp_path, monkeypatch
):
    """An administrator may write anywhere, so the system's answer is given
    here."""
    root = str(tmp_path / 'runs')
    runs = dense_runs(root, 'one')
    runs[0].config.test_evaluator.metrics = [
        dict(
            type='DomainMetric',
            checkpoint=str(tmp_path / 'classifier_digits_16' / 'iter_400.pth'),
        )
    ]
    monkeypatch.setattr(os, 'access', lambda path, mode: path != root)
    with pytest.raises(PPCDError, match='runs is read-only'):
        experiments.run_all(runs, 1)
    assert os.listdir(tmp_path) == ['runs']


def test_equal_runs_are_refused(tmp_path):
    """They would share a folder."""
    with pytest.raises(PPCDError, match='"one" with seed 0 .* twice'):
        experiments.run_all(dense_runs(tmp_path, 'one', 'two', 'one'), 1)


TOOL = """
import os, signal, sys, time
folder = sys.argv[sys.argv.index('--work-dir') + 1]
def stop(number, frame):
    open(os.path.join(folder, 'saved'), 'w').close()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
other = folder.replace('bad', 'long')
open(os.path.join(folder, 'began'), 'w').close()
if 'bad' in folder:
    while not os.path.exists(os.path.join(other, 'began')):
        time.sleep(.01)
    print('error: the reason', file=sys.stderr)
    sys.exit(2)
time.sleep(600)
"""


def test_the_first_failure_ends_all_runs_with_its_name_and_reason(
    tmp_path, monkeypatch
):
    """The other one, begun before and far from its end, is saved."""
    (tmp_path / 'train.py').write_text(TOOL)
    monkeypatch.setattr('ppcd_mmagic.experiments.runs.TOOLS', str(tmp_path))
    runs = dense_runs(tmp_path / 'runs', 'long', 'bad', 'later')
    with pytest.raises(PPCDError, match='bad_seed0.*train.log.*: the reason'):
        experiments.run_all(runs, 2)
    assert (tmp_path / 'runs' / 'long_seed0' / 'saved').exists()
    assert not (tmp_path / 'runs' / 'later_seed0' / 'began').exists()


def test_runs_of_other_settings_are_not_taken_for_these(tmp_path, monkeypatch):
    lines = {
        'dense': experiments.read_config('ppcd_gan/ppcd_digits_16_dense.py')
    }
    folder, called = tmp_path / 'dense_seed0', []

    def runs(**changes):
        return experiments.make_runs(
            lines, arguments(root=str(tmp_path), **changes)
        )

    def tool(command, stdout, **kwargs):
        called.append(osp.basename(command[1]))
        code = called == ['train.py']
        if code:
            stdout.write('error: at first it fails')
        else:
            (folder / 'iter_40.pth').touch()
            (folder / 'last_checkpoint').write_text('iter_40.pth')
        return argparse.Namespace(
            poll=lambda: code, wait=lambda: code, terminate=lambda: None
        )

    monkeypatch.setattr(subprocess, 'Popen', tool)
    with pytest.raises(PPCDError, match='at first it fails'):
        experiments.train_all(runs(max_iters=20), 1)
    experiments.train_all(runs(), 1)  # nothing was trained by then
    config = Config.fromfile(folder / 'config.py')
    assert config.train_cfg.val_begin > config.train_cfg.max_iters
    resumed = dict(resume=True, load_from=str(folder / 'iter_20.pth'))
    config.update(resumed)
    config.dump(folder / 'config.py')
    experiments.train_all(runs(), 1)
    assert called == ['train.py'] * 2, 'what is finished is not done again'
    (folder / 'metrics.json').write_text('{}')
    (folder / 'last_checkpoint').unlink()  # results count without it, too
    for change in (dict(compile=True), dict(load_from='another.pth')):
        Config({**config, **change}).dump(folder / 'config.py')
        with pytest.raises(PPCDError, match='dense_seed0.*' + [*change][0]):
            experiments.run_all(runs(), 1)
    config.dump(folder / 'config.py')
    for train in (experiments.train_all, experiments.run_all):
        with pytest.raises(PPCDError, match='dense_seed0.*train_cfg.*--root'):
            train(runs(max_iters=20), 1)
        with pytest.raises(PPCDError, match='dense_seed0.*model'):
            train(
                runs(cfg_options={'model.distillation_loss.loss_weight': 50.0}),
                1,
            )
    assert len(called) == 2


@pytest.mark.slow
def test_sweep_trains_prunes_tests_and_draws(tmp_path):
    command = [
        sys.executable,
        'tools/alpha_sweep.py',
        '--max-iters',
        '4',
        '--alphas',
        '0.5',
        '--seeds',
        '0',
        '--after-training',
        'SA-GAN',
        '--root',
        tmp_path,
        '--jobs',
        '2',
    ]
    run = subprocess.run(
        command, cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    kept = tmp_path / 'results.json'
    found = experiments.read_table(str(kept)).results
    assert set(found) == {
        'independent, alpha 0.5',
        'shared, alpha 0.5',
        'SA-GAN, alpha 0.5',
    }
    (shared,) = found['shared, alpha 0.5']
    (independent,) = found['independent, alpha 0.5']
    assert shared['parameters'] < independent['parameters'] < 86836
    assert 0 < shared['multiply_adds'] < independent['multiply_adds']
    assert '| SA-GAN, alpha 0.5' in run.stdout
    assert (
        'Seed 0 alone. 4 iterations each; those that are pruned after '
        'training 2 more, of fine-tuning.'
    ) in run.stdout
    for name in ('sweep', 'figure_h', 'figure_i'):
        picture = cv2.imread(str(tmp_path / f'{name}.png'))
        assert picture is not None and picture.std() > 5
    # sizes are counted where an older run has none
    without = tmp_path / 'shared_alpha_0.5_seed0' / 'metrics.json'
    metrics = json.loads(without.read_text())
    del metrics['multiply_adds']
    without.write_text(json.dumps(metrics))
    # what has been done is not done again
    logs = {path: osp.getmtime(path) for path in glob(f'{tmp_path}/*/*.log')}
    again = subprocess.run(
        command, cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert experiments.read_table(str(kept)).results == found
    changed = [path for path in logs if osp.getmtime(path) != logs[path]]
    assert all('before_pruning' in path for path in changed)


@pytest.mark.slow
def test_table_a_trains_exports_tests_and_draws(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            'tools/table_a.py',
            '--max-iters',
            '2',
            '--seeds',
            '0',
            '--root',
            tmp_path,
            '--jobs',
            '2',
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    kept = experiments.read_table(str(tmp_path / 'results.json'))
    assert set(kept.results) == set(table_a.LINES)
    for name in ('table', 'pictures', 'leakage'):
        picture = cv2.imread(str(tmp_path / f'{name}.png'))
        assert picture is not None and picture.std() > 5


def test_a_training_that_is_finished_is_not_done_again(tmp_path):
    """MMagic's configs name a work directory, which the tool sets anew."""
    config = Config(
        dict(
            model=dict(generator=dict(type='EDSRNet')),
            work_dir='elsewhere',
            train_cfg=dict(max_iters=3),
            train_dataloader=dict(batch_size=1),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=1e-3)),
        )
    )
    run = Run('dense', config, 0, str(tmp_path))
    Path(run.work_dir).mkdir()
    trained = Config(
        dict(
            config,
            work_dir=run.work_dir,
            train_cfg=dict(max_iters=3, val_interval=4),
            randomness=dict(seed=0, diff_rank_seed=True),
        )
    )
    trained.dump(f'{run.work_dir}/config.py')
    for name in ('iter_3.pth', 'last_checkpoint'):
        Path(run.work_dir, name).touch()
    train_all([run], 1)  # a training of this config would fail
    config.model.generator.mid_channels = 8
    with pytest.raises(PPCDError, match='another config .its model differ'):
        train_all([run], 1)
