from .hooks import IterSeedHook, MaskBinarizationHook

__all__ = ['IterSeedHook', 'MaskBinarizationHook']
