"""A training that is asked to end, ends saved."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from mmengine.hooks import Hook
from runs import tiny_runner

from ppcd_mmagic.checkpoints import newest_checkpoint, read_checkpoint
from ppcd_mmagic.engine import StopSignalHook


class Send(Hook):
    """Sends this process a signal in the third iteration."""

    def __init__(self, number):
        self.number = number

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == 3:
            os.kill(os.getpid(), self.number)


def stopped(work_dir, number, **options):
    runner = tiny_runner(work_dir, **options)
    runner.register_hook(Send(number))
    with pytest.raises(SystemExit) as ended:
        runner.train()
    return ended.value.code


@pytest.mark.parametrize(
    'number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
)
def test_the_step_is_finished_and_saved(tmp_path, capsys, number):
    before = signal.getsignal(number)
    assert stopped(tmp_path, number) == 128 + number
    path = str(tmp_path / 'iter_3.pth')
    assert newest_checkpoint(str(tmp_path)) == path
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        f'stopped by {number.name} after iteration 3, saved as '
        f'{path}: go on with --resume'
    )
    assert signal.getsignal(number) is before


def runner_that_received(number):
    return SimpleNamespace(
        iter=6, hooks=[], stop_signals=SimpleNamespace(received=number)
    )


def test_where_nothing_saves_it_says_so(capsys):
    with pytest.raises(SystemExit) as ended:
        StopSignalHook().after_train_iter(
            runner_that_received(signal.SIGTERM), 0
        )
    assert ended.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == (
        'stopped by SIGTERM after iteration 7, unsaved: go on with --resume\n'
    )


def test_a_validation_is_not_waited_for(capsys):
    """The iteration before it is complete, and no other one has begun."""
    with pytest.raises(SystemExit):
        StopSignalHook().after_val_iter(
            runner_that_received(signal.SIGTERM), 0, None, None
        )
    assert 'by SIGTERM after iteration 6,' in capsys.readouterr().err


def test_runners_that_note_no_signals_go_on():
    StopSignalHook().after_train_iter(SimpleNamespace(iter=6, hooks=[]), 0)


def stop_on_rank(rank, folder):
    """Rank 1 alone has received it."""
    torch.set_num_threads(1)  # threads of the parent are not forked with it
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    runner = runner_that_received(rank * int(signal.SIGUSR1))
    hook = StopSignalHook()
    # not all may have as many steps of a validation
    hook.after_val_iter(runner)
    try:
        hook.after_train_iter(runner, 0)
    except SystemExit as ended:
        with open(f'{folder}/{rank}', 'w') as file:
            file.write(str(ended.code))


def test_all_processes_end_after_the_same_step(tmp_path):
    torch.multiprocessing.start_processes(
        stop_on_rank, (str(tmp_path),), nprocs=2, start_method='fork'
    )
    for rank in '01':
        assert int((tmp_path / rank).read_text()) == 128 + signal.SIGUSR1


def test_a_checkpoint_that_was_due_anyway_is_written_once(
    tmp_path, monkeypatch
):
    from ppcd_mmagic.engine import SafeRunner

    written, save = [], SafeRunner.save_checkpoint

    def counted(self, out_dir, filename, *args, **kwargs):
        written.append(filename)
        save(self, out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(SafeRunner, 'save_checkpoint', counted)
    stopped(tmp_path, signal.SIGTERM, default_hooks__checkpoint__interval=3)
    assert written == ['iter_3.pth']


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    tiny_runner(tmp_path / 'whole').train()
    stopped(tmp_path / 'stopped', signal.SIGTERM)
    tiny_runner(tmp_path / 'stopped', resume=True).train()
    a, b = (
        read_checkpoint(str(tmp_path / name / 'iter_6.pth'), name)
        for name in ('whole', 'stopped')
    )
    for key, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][key]), key


def outcome(body):
    program = (
        'import os, signal, time\n'
        'from ppcd_mmagic.engine.hooks import StopSignals\n' + body
    )
    return subprocess.run(
        [sys.executable, '-c', program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_same_signal_again_ends_at_once():
    done = outcome(
        'with StopSignals():\n'
        '    os.kill(os.getpid(), signal.SIGTERM)\n'
        '    print("goes on", flush=True)\n'
        '    os.kill(os.getpid(), signal.SIGTERM)\n'
        '    print("still here", flush=True)\n'
    )
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == 'goes on\n'


def test_processes_that_load_data_outlive_a_signal_to_all():
    """Ctrl-C and SLURM send it to the whole group; for two minutes, in which
    the step is finished, and not for ever."""
    done = outcome(
        'with StopSignals() as signals:\n'
        '    child = os.fork()\n'
        '    if child == 0:\n'
        '        time.sleep(1)\n'
        '        os._exit(signal.alarm(0))\n'
        '    time.sleep(.3)\n'
        '    os.kill(child, signal.SIGINT)\n'
        '    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))\n'
        '    print(signals.received)\n'
    )
    left, received = map(int, done.stdout.split())
    assert 60 < left <= 120 and received == 0, done.stderr
