from .hooks import (IterSeedHook, MaskBinarizationHook, OnceForAllHook,
                    ShrinkHook)
from .preflight import enable_amp, find_problems

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'OnceForAllHook', 'ShrinkHook',
    'enable_amp', 'find_problems'
]
