from .iter_seed_hook import IterSeedHook
from .mask_binarization_hook import MaskBinarizationHook
from .once_for_all_hook import OnceForAllHook
from .shrink_hook import ShrinkHook

__all__ = [
    'IterSeedHook', 'MaskBinarizationHook', 'OnceForAllHook', 'ShrinkHook'
]
