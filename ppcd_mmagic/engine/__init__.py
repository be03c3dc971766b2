from .hooks import IterSeedHook, MaskBinarizationHook, OnceForAllHook
from .preflight import enable_amp, find_problems

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'OnceForAllHook', 'enable_amp',
    'find_problems'
]
