import math
from typing import Optional

from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from ppcd_mmagic.checkpoints import first_not_finite
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import HOOKS


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Ends a training that has diverged, before it is saved.

    Losses are looked at after every iteration, where MMEngine has written
    them into its history, which is on the CPU: the GPU is not waited for. All
    that goes into a checkpoint, weights, EMA copy and the optimizers' state,
    is looked at before it is written.

    Args:
        patience (int): In mixed precision with a dynamic scale, where steps
            of infinite gradients are left out, so many iterations in a row
            may have a loss that is not finite. Defaults to 20.

    Raises:
        PPCDError: While training, naming the iteration and the loss or the
            parameter.

    Example:
        >>> HOOKS.build(dict(type='FiniteGuardHook', patience=50)).patience
        50
    """

    priority = 'HIGH'

    def __init__(self, patience: int = 20) -> None:
        if patience < 0:
            raise PPCDError(f'patience={patience} must be at least 0.')
        self.patience = patience
        self._in_a_row = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        wrong = next(
            (
                name
                for name in outputs or ()
                if not math.isfinite(_logged(runner, name))
            ),
            None,
        )
        self._in_a_row = self._in_a_row + 1 if wrong else 0
        if wrong and self._in_a_row > (
            self.patience if _is_scaled(runner) else 0
        ):
            raise PPCDError(
                f'{wrong} is {_logged(runner, wrong)} at iteration '
                f'{runner.iter + 1}: the training has diverged and was ended. '
                + _advice(runner)
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        wrong = first_not_finite(checkpoint)
        if wrong is not None:
            raise PPCDError(
                f'{wrong} is not finite after iteration {runner.iter + 1}: the '
                'training has diverged and was ended, unsaved. '
                + _advice(runner)
            )


def _logged(runner: Runner, name: str) -> float:
    return runner.message_hub.get_scalar(f'train/{name}').current()


def _is_scaled(runner: Runner) -> bool:
    wrapper = runner.optim_wrapper
    wrappers = (
        wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    )
    return any(isinstance(wrapper, AmpOptimWrapper) for wrapper in wrappers)


def _advice(runner: Runner) -> str:
    last = runner.message_hub.runtime_info.get('last_ckpt')
    start = f'from {last}, the last that was good,' if last else 'again'
    return (
        f'Start {start} with a smaller learning rate or loss weight '
        '(--cfg-options load_from=PATH optim_wrapper...lr=RATE), or in '
        'full precision.'
    )
