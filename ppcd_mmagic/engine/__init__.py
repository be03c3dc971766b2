from .hooks import IterSeedHook, MaskBinarizationHook, ShrinkHook
from .preflight import enable_amp, find_problems

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'ShrinkHook', 'enable_amp',
    'find_problems'
]
