import os
import signal
import sys
import threading
from typing import Any, Dict, Optional

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.registry import HOOKS
from .safe_checkpoint_hook import SafeCheckpointHook

# Ctrl-C, `kill` and most schedulers, and what SLURM sends before the end
# (Windows has no SIGUSR1)
SIGNALS = tuple(
    getattr(signal, name)
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1')
    if hasattr(signal, name)
)
# how long the processes that load data outlive a signal to all of them
_GRACE = 120


class StopSignals:
    """Notes the signals that ask for an end, while it is entered.

    The same one again ends the process at once. Processes that load data have
    to be started inside: a signal that is sent to all of them must not take
    away the data of the step that is to be finished.

    Attributes:
        received (int): Number of the first signal, 0 if there was none.

    Example:
        >>> with StopSignals() as signals:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     pass  # what is under way goes on
        >>> signal.Signals(signals.received).name
        'SIGTERM'
    """

    def __init__(self) -> None:
        self.received = 0
        self._process = os.getpid()
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> 'StopSignals':
        if threading.current_thread() is not threading.main_thread():
            return self  # Python sets handlers in the main thread alone
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            signal.alarm(_GRACE)
        elif number == self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
        elif not self.received:
            self.received = number


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Ends a training that is asked to, saved.

    On SIGTERM, SIGINT and SIGUSR1 the step is finished and a checkpoint
    written; the exit code is 128 + the number of the signal. All processes of
    a distributed training end after the same step. For a :class:`SafeRunner`.
    """

    priority = 'LOWEST'  # after the checkpoint that may be due

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        self._stop_if_asked(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        # a validation may take hours; whether all processes have as many
        # steps in it is not known
        if get_world_size() == 1:
            self._stop_if_asked(runner, runner.iter)

    def _stop_if_asked(self, runner: Runner, done: int) -> None:
        signals = getattr(runner, 'stop_signals', None)
        agreed = torch.tensor(signals.received if signals else 0)
        all_reduce(agreed, 'max')
        number = int(agreed)
        if not number:
            return
        saved = [
            hook.save_now(runner, done)
            for hook in runner.hooks
            if isinstance(hook, SafeCheckpointHook)
        ]
        if is_main_process():
            name = signal.Signals(number).name
            where = f', saved as {saved[0]}' if saved else ', unsaved'
            print(
                f'stopped by {name} after iteration {done}{where}: go on '
                'with --resume',
                file=sys.stderr,
            )
        raise SystemExit(128 + number)
