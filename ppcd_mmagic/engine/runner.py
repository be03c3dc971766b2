import os.path as osp
from typing import Callable, Optional, Sequence, Tuple, Union

import torch.nn as nn
from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, get_state_dict, load_state_dict

from ppcd_mmagic.building import built_or_refused
from ppcd_mmagic.checkpoints import (
    RESUMED,
    check_fit,
    newest_checkpoint,
    read_checkpoint,
    rename_to_fit,
)
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import written_whole
from ppcd_mmagic.registry import RUNNERS
from .hooks import StopSignals
from .resumption import refuse_changes

_OF_MMENGINE = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


@RUNNERS.register_module()
class SafeRunner(Runner):
    """MMEngine's runner, where a checkpoint is loaded, and written, whole or
    not at all; ``resume=True`` begins at the newest one that is whole.

    For configs of any scope: ``runner_type = 'ppcd_mmagic.SafeRunner'``.
    """

    _resume: bool
    _load_from: Optional[str]
    _has_loaded: bool

    # what is built when the training begins
    build_train_loop, build_val_loop, build_test_loop = (
        built_or_refused(what)(build)
        for what, build in (
            ('the training', Runner.build_train_loop),
            ('the validation', Runner.build_val_loop),
            ('the test', Runner.build_test_loop),
        )
    )
    build_optim_wrapper = built_or_refused('optim_wrapper')(
        Runner.build_optim_wrapper
    )
    build_param_scheduler = built_or_refused('param_scheduler')(
        Runner.build_param_scheduler
    )

    def register_default_hooks(self, hooks: Optional[dict] = None) -> None:
        """Register hooks by name; ``None`` switches one off."""
        named = hooks or {}
        # MMEngine takes None for the hooks that it has by itself alone
        super().register_default_hooks(
            {
                name: hook
                for name, hook in named.items()
                if hook is not None or name in _OF_MMENGINE
            }
        )

    def dump_config(self) -> None:
        # of a resumed training it is written when that may go on with it
        if not self._resume:
            super().dump_config()

    def load_or_resume(self) -> None:
        resumes = self._resume
        if self._resume and self._load_from is None and not self._has_loaded:
            self._load_from = newest_checkpoint(self.work_dir)
            self._resume = self._load_from is not None
        super().load_or_resume()
        if resumes:
            super().dump_config()

    def train(self) -> nn.Module:
        # entered before the processes that load data are started
        with StopSignals() as self.stop_signals:
            return super().train()

    def load_checkpoint(
        self,
        filename: str,
        map_location: Union[str, Callable] = 'cpu',
        strict: bool = True,
        revise_keys: Sequence[Tuple[str, str]] = (),
    ) -> dict:
        """Load the weights of the whole model.

        Args:
            filename (str): Checkpoint on disk.
            map_location (str | Callable): As in ``torch.load``.
            strict, revise_keys: There for MMEngine's signature; whatever they
                are, every key must fit.

        Raises:
            PPCDError: If it cannot be read or does not fit, or a training is
                to be resumed from weights alone; the model is then as it was.
        """
        checkpoint = read_checkpoint(filename, 'given', map_location)
        # a training with one rate throughout has no schedulers to save
        needed = RESUMED | (
            {'param_schedulers'} if self.param_schedulers else set()
        )
        if self._resume and not needed <= checkpoint.keys():
            raise PPCDError(
                f'The given checkpoint {filename} holds weights alone, no '
                'training to resume: start another one from them with '
                '--cfg-options load_from=PATH.'
            )
        if self._resume:
            refuse_changes(checkpoint['meta'], self.cfg, filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = _unwrapped(self.model)
        wanted = get_state_dict(model)
        state = rename_to_fit(checkpoint.get('state_dict', checkpoint), wanted)
        check_fit(state, wanted, 'given', filename, type(model).__name__)
        load_state_dict(model, {**wanted, **state}, strict=True)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, *args, **kwargs
    ) -> None:
        """Save a checkpoint, see MMEngine's runner.

        Raises:
            PPCDError: If the disk is full; what was saved before is whole.
        """
        backend = get_file_backend(
            out_dir, backend_args=kwargs.get('backend_args')
        )
        if not isinstance(backend, LocalBackend):  # stores put files whole
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with written_whole(osp.join(out_dir, filename)) as path:
            super().save_checkpoint(*osp.split(path), *args, **kwargs)


def _unwrapped(model):
    return model.module if is_model_wrapper(model) else model
