import inspect
import os
import os.path as osp
from glob import escape, glob
from typing import Any, List, Optional

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, get_state_dict, weights_to_cpu

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import written_whole
from ppcd_mmagic.registry import HOOKS
from ..validation import require_names, validation_metrics


class _RemovesLater:
    """A file backend that notes what is to be removed, and does not yet."""

    def __init__(self, backend: Any, outdated: List[str]) -> None:
        self._backend = backend
        self._outdated = outdated

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._outdated.append(osp.basename(path))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's, such that a training always has a whole checkpoint.

    The new checkpoint is written before the oldest is deleted, the best one
    likewise. ``last_checkpoint`` is relative to the work directory, which can
    so be moved or copied. Weights bear the model's own names, without those of
    distributed wrappers.

    Args:
        max_keep_ckpts (int): As MMEngine's, but 1 counts as 2: what ended a
            training may have damaged the file that was written last.
            Defaults to -1, which keeps all.
        **kwargs: MMEngine's.

    Raises:
        PPCDError: If MMEngine's hook does not have a setting, or none of the
            validation's metrics can be what ``save_best`` names.

    Example:
        >>> default_hooks = dict(
        ...     checkpoint=dict(
        ...         type='SafeCheckpointHook', interval=5000, by_epoch=False,
        ...         max_keep_ckpts=3,
        ...     )
        ... )
        >>> HOOKS.build(default_hooks['checkpoint']).max_keep_ckpts
        3
    """

    file_backend: Any
    best_ckpt_path: Optional[str]

    def __init__(self, max_keep_ckpts: int = -1, **kwargs) -> None:
        known = inspect.signature(CheckpointHook).parameters
        unknown = kwargs.keys() - known.keys()
        if unknown:
            raise PPCDError(
                f'SafeCheckpointHook has no setting {", ".join(unknown)}; it '
                f'has {", ".join(known)}.'
            )
        if max_keep_ckpts > 0:
            max_keep_ckpts = max(2, max_keep_ckpts)
        super().__init__(max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._outdated: List[str] = []

    def before_train(self, runner: Runner) -> None:
        info = runner.message_hub.runtime_info
        # noted before a kill that came between the writing and the deleting
        self._outdated.extend(info.get('outdated_ckpts', []))
        super().before_train(runner)
        self._backend = self.file_backend
        self.file_backend = _RemovesLater(self._backend, self._outdated)
        if is_main_process():  # what a kill left half written
            for path in glob(osp.join(escape(self.out_dir), '.*.partial')):
                os.remove(path)
        if self.save_best is not None:
            self._require_best(runner)
            self._find_best_here()
        self._remove_outdated()

    def _require_best(self, runner: Runner) -> None:
        # without a metric MMEngine says that there is no best one, and goes on
        metrics = validation_metrics(runner)
        named = [name for name in self.key_indicators if name != 'auto']
        if metrics:
            require_names(metrics, named, 'save_best')

    def _find_best_here(self) -> None:
        """The work directory may be a copy: its original is not touched."""

        def here(path: Optional[str]) -> Optional[str]:
            return path and osp.join(self.out_dir, osp.basename(path))

        if len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        else:
            for key, path in self.best_ckpt_path_dict.items():
                self.best_ckpt_path_dict[key] = here(path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        checkpoint['state_dict'] = weights_to_cpu(get_state_dict(model))
        checkpoint['meta']['world_size'] = get_world_size()
        checkpoint['message_hub']['runtime_info']['outdated_ckpts'] = list(
            self._outdated
        )

    def save_now(self, runner: Runner, done: int) -> str:
        """Save although none is due, unless that has just been done.

        Args:
            runner (Runner): The runner.
            done (int): Iterations that are complete.

        Returns:
            str: Path of the checkpoint.
        """
        path = osp.join(self.out_dir, self.filename_tmpl.format(done))
        if self.last_ckpt != path:
            self._save_checkpoint_with_step(
                runner, done, meta=dict(epoch=runner.epoch, iter=done)
            )
        return path

    def _save_checkpoint_with_step(
        self, runner: Runner, *args, **kwargs
    ) -> None:
        super()._save_checkpoint_with_step(runner, *args, **kwargs)
        if is_main_process():
            pointer = osp.join(runner.work_dir, 'last_checkpoint')
            with written_whole(pointer) as path, open(path, 'w') as file:
                file.write(osp.relpath(self.last_ckpt, runner.work_dir))
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        for name in self._outdated:
            path = osp.join(self.out_dir, name)
            if is_main_process() and self._backend.isfile(path):
                self._backend.remove(path)
        self._outdated.clear()
