from .hooks import (IterSeedHook, MaskBinarizationHook, OnceForAllHook,
                    ShrinkHook)
from .preflight import enable_amp, find_problems
from .runner import SafeRunner

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'OnceForAllHook', 'ShrinkHook',
    'SafeRunner', 'enable_amp', 'find_problems'
]
