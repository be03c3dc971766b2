from .config_checks import config_problems, merge_options
from .hooks import (
    ChannelsLastHook,
    ExtraLossesHook,
    FiniteGuardHook,
    IterSeedHook,
    MaskBinarizationHook,
    OnceForAllHook,
    SafeCheckpointHook,
    ShortHistoryHook,
    ShrinkHook,
    StopSignalHook,
    StopSignals,
)
from .lost_processes import lost_processes_named
from .preflight import enable_amp, find_problems
from .runner import SafeRunner
from .settings import hooks_of, kind_of, settings_of
from .train_loop import ResumableTrainLoop
from .work_dir import FormerTraining, locked, refuse_used

__all__ = [
    'ChannelsLastHook',
    'ExtraLossesHook',
    'FiniteGuardHook',
    'FormerTraining',
    'IterSeedHook',
    'MaskBinarizationHook',
    'OnceForAllHook',
    'ResumableTrainLoop',
    'SafeCheckpointHook',
    'SafeRunner',
    'ShortHistoryHook',
    'ShrinkHook',
    'StopSignalHook',
    'StopSignals',
    'config_problems',
    'enable_amp',
    'find_problems',
    'hooks_of',
    'kind_of',
    'locked',
    'lost_processes_named',
    'merge_options',
    'refuse_used',
    'settings_of',
]
