from .iter_seed_hook import IterSeedHook
from .mask_binarization_hook import MaskBinarizationHook

__all__ = ['IterSeedHook', 'MaskBinarizationHook']
