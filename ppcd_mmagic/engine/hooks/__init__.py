from .channels_last_hook import ChannelsLastHook
from .extra_losses_hook import ExtraLossesHook
from .finite_guard_hook import FiniteGuardHook
from .iter_seed_hook import IterSeedHook
from .mask_binarization_hook import MaskBinarizationHook
from .once_for_all_hook import OnceForAllHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .short_history_hook import ShortHistoryHook
from .shrink_hook import ShrinkHook
from .stop_signal_hook import SIGNALS, StopSignalHook, StopSignals

__all__ = [
    'SIGNALS',
    'ChannelsLastHook',
    'ExtraLossesHook',
    'FiniteGuardHook',
    'IterSeedHook',
    'MaskBinarizationHook',
    'OnceForAllHook',
    'SafeCheckpointHook',
    'ShortHistoryHook',
    'ShrinkHook',
    'StopSignalHook',
    'StopSignals',
]
