from .hooks import IterSeedHook, MaskBinarizationHook
from .preflight import enable_amp, find_problems

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'enable_amp', 'find_problems'
]
