"""A training that is asked to end, ends saved."""
import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from mmengine.hooks import Hook
from runs import tiny_runner

from ppcd_mmagic.checkpoints import newest_checkpoint, read_checkpoint


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


@pytest.mark.parametrize('number', [
    signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
])
def test_the_step_is_finished_and_saved(tmp_path, capsys, number):
    before = signal.getsignal(number)
    assert stopped(tmp_path, number) == 128 + number
    path = str(tmp_path / 'iter_3.pth')
    assert newest_checkpoint(str(tmp_path)) == path
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (f'stopped by {number.name} after iteration 3, saved as '
                    f'{path}: go on with --resume')
    assert signal.getsignal(number) is before


def test_a_checkpoint_that_was_due_anyway_is_written_once(
        tmp_path, monkeypatch):
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
    a, b = (read_checkpoint(str(tmp_path / name / 'iter_6.pth'), name)
            for name in ('whole', 'stopped'))
    for key, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][key]), key


def outcome(body):
    program = ('import os, signal, time\n'
               'from ppcd_mmagic.engine.hooks import StopSignals\n' + body)
    return subprocess.run([sys.executable, '-c', program], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)


def test_the_same_signal_again_ends_at_once():
    done = outcome('with StopSignals():\n'
                   '    os.kill(os.getpid(), signal.SIGTERM)\n'
                   '    print("goes on", flush=True)\n'
                   '    os.kill(os.getpid(), signal.SIGTERM)\n'
                   '    print("still here", flush=True)\n')
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == 'goes on\n'


def test_processes_that_load_data_outlive_a_signal_to_all():
    """Ctrl-C and SLURM send it to the whole group."""
    done = outcome('with StopSignals() as signals:\n'
                   '    child = os.fork()\n'
                   '    if child == 0:\n'
                   '        time.sleep(1)\n'
                   '        os._exit(7)\n'
                   '    time.sleep(.3)\n'
                   '    os.kill(child, signal.SIGINT)\n'
                   '    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))\n'
                   '    print(signals.received)\n')
    assert done.stdout.split() == ['7', '0'], done.stderr
