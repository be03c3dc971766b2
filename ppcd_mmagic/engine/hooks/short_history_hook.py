from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.registry import HOOKS


@HOOKS.register_module()
class ShortHistoryHook(Hook):
    """Forgets what was logged long ago.

    MMEngine keeps the last million values of everything that is logged, copies
    them at every iteration and saves them with every checkpoint: after 250,000
    iterations that is 1.5 ms and 4 MB for each loss. Its log means over the
    last few. Files of logs and curves are not touched.

    Args:
        length (int): How many values of each are kept. Defaults to 10000.

    Raises:
        PPCDError: If it is below 1, or the log processor means over more.

    Example:
        >>> HOOKS.build(dict(type='ShortHistoryHook', length=500)).length
        500
    """

    priority = 'VERY_LOW'

    def __init__(self, length: int = 10000) -> None:
        if length < 1:
            raise PPCDError(f'length={length} must be at least 1.')
        self.length = length

    def before_train(self, runner: Runner) -> None:
        processor = runner.log_processor
        for window in [processor.window_size] + [
            rule['window_size']
            for rule in processor.custom_cfg
            if 'window_size' in rule
        ]:
            if not isinstance(window, int) or window > self.length:
                raise PPCDError(
                    f'The log processor means over window_size={window}, but '
                    f'ShortHistoryHook keeps {self.length} values: set '
                    'default_hooks.short_history.length to as many (to '
                    "1000000, MMEngine's, where all are needed)."
                )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        # a buffer cuts itself when the next value comes
        for name, buffer in runner.message_hub.log_scalars.items():
            if name.startswith('train/'):
                buffer.max_length = self.length
