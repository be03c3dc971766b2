"""A training always has a whole checkpoint, and goes on from it."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from gans import StandInForDDP
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from runs import tiny_config, tiny_runner
from tool_calls import call_tool

from ppcd_mmagic import PPCDError
from ppcd_mmagic.checkpoints import (
    last_checkpoint,
    newest_checkpoint,
    read_checkpoint,
)
from ppcd_mmagic.engine import (
    FormerTraining,
    SafeCheckpointHook,
    SafeRunner,
    locked,
    refuse_used,
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Six iterations, saved at each; the last three are kept."""
    work_dir = tmp_path_factory.mktemp('trained') / 'run'
    tiny_runner(work_dir, default_hooks__checkpoint__interval=1).train()
    return work_dir


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(trained, tmp_path / 'copy')


def saved(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def test_the_newest_are_kept(trained):
    assert saved(trained) == ['iter_4.pth', 'iter_5.pth', 'iter_6.pth']
    assert not list(trained.glob('.*partial'))


def test_one_that_is_to_be_kept_counts_as_two(tmp_path):
    tiny_runner(
        tmp_path,
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=1,
    ).train()
    assert saved(tmp_path) == ['iter_5.pth', 'iter_6.pth']


@pytest.mark.parametrize('settings', [{}, dict(max_keep_ckpts=0)])
def test_all_are_kept_if_nothing_else_is_said(tmp_path, settings):
    config = tiny_config(tmp_path, train_cfg__max_iters=3)
    config.default_hooks.checkpoint = dict(
        type='SafeCheckpointHook', interval=1, by_epoch=False, **settings
    )
    SafeRunner.from_cfg(config).train()
    assert saved(tmp_path) == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']


class Killed(BaseException):
    """As by SIGKILL, after which nothing is tidied up."""


@pytest.mark.parametrize('by_hand', [False, True])
def test_what_a_kill_left_to_be_deleted_goes_when_the_training_goes_on(
    tmp_path, monkeypatch, by_hand
):
    options = dict(
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=2,
        train_cfg__max_iters=3,
    )

    def killed(self, path):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'remove', killed)
        with pytest.raises(Killed):
            tiny_runner(tmp_path, **options).train()
    assert saved(tmp_path) == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']
    if by_hand:  # somebody else was faster
        (tmp_path / 'iter_1.pth').unlink()
    tiny_runner(tmp_path, resume=True, **options).train()
    assert saved(tmp_path) == ['iter_2.pth', 'iter_3.pth']


def test_a_checkpoint_notes_what_is_to_be_deleted_and_nothing_else(trained):
    """What was deleted once may have been written again since."""
    info = read_checkpoint(str(trained / 'iter_6.pth'), '')['message_hub'][
        'runtime_info'
    ]
    assert info['outdated_ckpts'] == ['iter_3.pth']


def test_weights_bear_the_names_of_the_model_not_of_its_wrapper():
    checkpoint = dict(state_dict={}, meta={}, message_hub=dict(runtime_info={}))
    model = torch.nn.Linear(2, 1)
    SafeCheckpointHook(interval=1).before_save_checkpoint(
        SimpleNamespace(model=StandInForDDP(model)), checkpoint
    )
    assert checkpoint['state_dict'].keys() == {'weight', 'bias'}
    assert torch.equal(checkpoint['state_dict']['weight'], model.weight)


def test_another_number_of_processes_is_refused(run):
    checkpoint = read_checkpoint(str(run / 'iter_6.pth'), '')
    assert checkpoint['meta']['world_size'] == 1
    checkpoint['meta']['world_size'] = 4
    torch.save(checkpoint, run / 'iter_6.pth')
    with pytest.raises(
        PPCDError, match=r'number of processes \(4 then, 1 now\)'
    ):
        resume(run, 'iter_6.pth')


def test_a_setting_that_the_hook_does_not_have():
    with pytest.raises(PPCDError, match='no setting intervall'):
        SafeCheckpointHook(intervall=5)


def test_the_new_checkpoint_is_whole_before_the_old_one_goes(
    tmp_path, monkeypatch
):
    removed, remove = [], LocalBackend.remove

    def watched(self, path):
        step = int(os.path.basename(path)[5:-4])
        read_checkpoint(str(tmp_path / f'iter_{step + 2}.pth'), 'new')
        removed.append(step)
        remove(self, path)

    monkeypatch.setattr(LocalBackend, 'remove', watched)
    tiny_runner(
        tmp_path,
        default_hooks__checkpoint__interval=1,
        default_hooks__checkpoint__max_keep_ckpts=2,
    ).train()
    assert removed == [1, 2, 3, 4]


def test_last_checkpoint_is_relative_so_that_a_copy_is_its_own(run):
    assert (run / 'last_checkpoint').read_text() == 'iter_6.pth'
    assert newest_checkpoint(str(run)) == str(run / 'iter_6.pth')


def test_the_path_of_older_versions_is_looked_for_in_the_copy(run, trained):
    (run / 'last_checkpoint').write_text(str(trained / 'iter_5.pth'))
    assert last_checkpoint(str(run)) == str(run / 'iter_5.pth')


def truncate(run):
    (run / 'iter_6.pth').write_bytes((run / 'iter_6.pth').read_bytes()[:9000])


def empty(run):
    (run / 'iter_6.pth').write_bytes(b'')


def poison(run):
    checkpoint = read_checkpoint(str(run / 'iter_6.pth'), '')
    checkpoint['state_dict']['generator.noise2feat.bias'][0] = float('nan')
    torch.save(checkpoint, run / 'iter_6.pth')


def strip(run):
    checkpoint = read_checkpoint(str(run / 'iter_6.pth'), '')
    torch.save(dict(state_dict=checkpoint['state_dict']), run / 'iter_6.pth')


def delete(run):
    (run / 'iter_6.pth').unlink()


@pytest.mark.parametrize('spoil', [truncate, empty, poison, strip, delete])
def test_resumption_goes_back_past_a_damaged_checkpoint(run, spoil):
    spoil(run)
    assert newest_checkpoint(str(run)) == str(run / 'iter_5.pth')


@pytest.mark.parametrize('text', ['', 'iter_9.pth', None])
def test_a_lost_pointer_is_not_needed(run, text):
    (run / 'last_checkpoint').unlink()
    if text is not None:
        (run / 'last_checkpoint').write_text(text)
    assert newest_checkpoint(str(run)) == str(run / 'iter_6.pth')


def test_a_training_that_was_given_up_is_not_taken_for_the_newest(run):
    (run / 'last_checkpoint').write_text('iter_5.pth')
    assert newest_checkpoint(str(run)) == str(run / 'iter_5.pth')
    (run / 'iter_5.pth').write_bytes(b'')
    assert newest_checkpoint(str(run)) == str(run / 'iter_4.pth')


def test_where_none_is_whole_nothing_begins_again_in_silence(run):
    for name in saved(run):
        (run / name).write_bytes(b'')
    with pytest.raises(PPCDError, match='iter_6.pth.*--overwrite'):
        newest_checkpoint(str(run))
    for name in saved(run):
        (run / name).unlink()
    with pytest.raises(PPCDError, match='all are deleted'):
        newest_checkpoint(str(run))


def test_where_nothing_was_saved_there_is_nothing_to_resume(tmp_path):
    assert newest_checkpoint(str(tmp_path / 'absent')) is None


def test_a_full_disk_is_one_line_and_spoils_nothing(tmp_path, monkeypatch):
    put = LocalBackend.put

    def full(self, content, path):
        if 'iter_4' in str(path):
            put(self, content[:1000], path)
            raise OSError(28, 'No space left on device')
        put(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', full)
    with pytest.raises(PPCDError, match='iter_4.pth.*No space left'):
        tiny_runner(tmp_path).train()
    assert saved(tmp_path) == ['iter_2.pth']
    assert not list(tmp_path.glob('.*partial'))
    assert newest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')


def resume(run, path='iter_4.pth', **options):
    runner = tiny_runner(run, load_from=str(run / path), resume=True, **options)
    runner.load_or_resume()
    return runner


@pytest.mark.parametrize(
    'options, what',
    [
        (
            dict(default_hooks__mask_binarization__alpha=0.5),
            r'MaskBinarizationHook.alpha \(0.6 then, 0.5 now\)',
        ),
        (
            dict(model__generator__residual_masks='shared'),
            r'model.generator.residual_masks \(none then, shared now\)',
        ),
        (
            dict(train_dataloader__dataset__split='train'),
            r'train_dataloader.dataset.split \(none then, train now\)',
        ),
        (dict(train_dataloader__batch_size=8), r'batch_size \(4 then, 8 now\)'),
        (dict(randomness__seed=1), r'randomness.seed \(2022 then, 1 now\)'),
    ],
)
def test_other_settings_than_the_checkpoint_s_are_refused_by_name(
    run, options, what
):
    config = run / 'ppcd_digits_16_alpha06.py'
    before = config.read_text()
    with pytest.raises(PPCDError, match=what + '.*--allow-changes'):
        resume(run, **options)
    assert config.read_text() == before, 'that of the checkpoints'


def test_other_settings_can_be_allowed(run):
    runner = resume(
        run, default_hooks__mask_binarization__alpha=0.5, allow_changes=True
    )
    assert runner.iter == 4
    assert 'alpha=0.5' in (run / 'ppcd_digits_16_alpha06.py').read_text()


def test_hooks_may_stand_elsewhere_than_in_the_checkpoint_s_config(run):
    config = tiny_config(run, load_from=str(run / 'iter_4.pth'), resume=True)
    config.custom_hooks = [config.default_hooks.pop('mask_binarization')]
    runner = SafeRunner.from_cfg(config)
    runner.load_or_resume()
    assert runner.iter == 4


def test_what_a_checkpoint_brings_along_cannot_be_changed(run):
    """It would be ignored without a word."""
    with pytest.raises(PPCDError, match=r'generator.optimizer.lr.*its own'):
        resume(
            run,
            optim_wrapper__generator__optimizer__lr=1e-5,
            allow_changes=True,
        )


def test_what_changes_speed_and_log_alone_is_free(run):
    runner = resume(
        run,
        train_dataloader__num_workers=1,
        default_hooks__logger__interval=7,
        train_cfg__max_iters=9,
        default_hooks__visualization__n_samples=4,
    )
    assert runner.iter == 4


def test_the_best_by_what_is_not_measured_is_refused_before_training(tmp_path):
    distance = dict(
        type='SWD', fake_nums=4, image_shape=(3, 16, 16), prefix='swd'
    )
    options = dict(
        val_evaluator__metrics=[distance],
        default_hooks__checkpoint__rule='less',
    )
    runner = tiny_runner(
        tmp_path, default_hooks__checkpoint__save_best='frechet', **options
    )
    with pytest.raises(PPCDError, match='save_best="frechet".*begin with swd/'):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize('measured', ['lower', ['lower', 'other']])
def test_resumption_in_a_copy_leaves_the_best_of_its_original(
    tmp_path, measured
):
    options = dict(
        default_hooks__checkpoint__save_best=measured,
        default_hooks__checkpoint__rule='less',
    )
    original = tmp_path / 'original'

    class Falling(Hook):
        """Each validation is better than the one before."""

        def before_train_iter(self, runner, *args, **kwargs):
            (checkpoint_hook,) = (
                h for h in runner.hooks if isinstance(h, SafeCheckpointHook)
            )
            value = float(-runner.iter)
            checkpoint_hook.after_val_epoch(
                runner, dict(lower=value, other=value)
            )
            (last,) = runner_dir(runner).glob('best_lower_*')
            assert last.name == f'best_lower_iter_{runner.iter}.pth'

    def run(work_dir, **more):
        runner = tiny_runner(work_dir, **options, **more)
        runner.register_hook(Falling(), 'LOWEST')
        runner.train()

    def runner_dir(runner):
        return tmp_path / os.path.basename(runner.work_dir)

    run(original)
    best = sorted(original.glob('best_*'))
    copy = shutil.copytree(original, tmp_path / 'copy')
    run(
        copy,
        load_from=str(copy / 'iter_6.pth'),
        resume=True,
        train_cfg__max_iters=8,
    )
    assert sorted(original.glob('best_*')) == best
    names = [measured] if isinstance(measured, str) else measured
    assert sorted(path.name for path in copy.glob('best_*')) == [
        f'best_{name}_iter_7.pth' for name in names
    ]


def test_a_used_directory_is_refused(run, tmp_path):
    with pytest.raises(PPCDError, match='iter_4.*--resume.*--overwrite'):
        refuse_used(str(run))
    refuse_used(str(tmp_path / 'unused'))


def test_overwriting_deletes_a_training_and_nothing_else(run):
    (run / 'notes.txt').write_text('mine')
    (run / '20260101_120000').mkdir()
    former = FormerTraining(Config(dict(work_dir=str(run))))
    (run / '20260202_120000').mkdir()  # of the new one
    (run / 'iter_5.pth').unlink()  # somebody else was quicker
    former.after_train_iter(None, 0)
    refuse_used(str(run))
    assert (run / 'notes.txt').exists()
    assert not (run / '20260101_120000').exists()
    assert (run / '20260202_120000').exists()


def test_overwriting_costs_nothing_before_a_first_iteration(
    run, tmp_path, monkeypatch
):
    path = tmp_path / 'config.py'
    tiny_config(run).dump(path)

    def overwrite(*options):
        call_tool(
            monkeypatch,
            'train',
            path,
            '--work-dir',
            run,
            '--overwrite',
            '--cfg-options',
            'resume=True',  # as a resumed training leaves it
            *options,
        )

    before = {name: (run / name).stat().st_mtime_ns for name in saved(run)}
    for option, message in (
        ('optim_wrapper.generator.optimizer.betass=1', 'betass'),
        (f'load_from={run}/iter_6.pth', 'delete .*iter_6.*load_from.*work-dir'),
    ):
        with pytest.raises(PPCDError, match=message):
            overwrite(option)
        assert saved(run) == list(before)
    overwrite('default_hooks.checkpoint.interval=1')
    assert saved(run) == ['iter_4.pth', 'iter_5.pth', 'iter_6.pth']
    assert all(
        (run / name).stat().st_mtime_ns > time for name, time in before.items()
    )


def test_two_trainings_do_not_share_a_directory(tmp_path):
    program = (
        'import sys\nfrom ppcd_mmagic.engine import locked\n'
        f'with locked({str(tmp_path)!r}):\n'
        '    print("locked", flush=True)\n    sys.stdin.read()'
    )
    other = subprocess.Popen(
        [sys.executable, '-c', program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == 'locked\n'
        with pytest.raises(PPCDError, match=f'process {other.pid} on '):
            with locked(str(tmp_path)):
                pass
    finally:
        other.kill()
        other.wait()
    with locked(str(tmp_path)):  # the lock died with its process
        pass


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(PPCDError, match='cannot be written.*--work-dir'):
        with locked(str(tmp_path / 'file' / 'run')):
            pass


def test_what_a_kill_left_half_written_is_cleared_away(run):
    (run / '.iter_7.pth.partial').write_bytes(b'half')
    resume(run).train()
    assert not list(run.glob('.*partial'))
