from .hooks import (CheckpointHook, FiniteGuardHook, IterSeedHook,
                    MaskBinarizationHook, OnceForAllHook, ShrinkHook)
from .preflight import enable_amp, find_problems
from .runner import SafeRunner
from .work_dir import clear, locked, refuse_used

__all__ = [
    'CheckpointHook', 'FiniteGuardHook', 'IterSeedHook',
    'MaskBinarizationHook', 'OnceForAllHook', 'SafeRunner', 'ShrinkHook',
    'clear', 'enable_amp', 'find_problems', 'locked', 'refuse_used'
]
