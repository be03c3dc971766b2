from .checkpoint_hook import CheckpointHook
from .finite_guard_hook import FiniteGuardHook
from .iter_seed_hook import IterSeedHook
from .mask_binarization_hook import MaskBinarizationHook
from .once_for_all_hook import OnceForAllHook
from .shrink_hook import ShrinkHook

__all__ = [
    'CheckpointHook', 'FiniteGuardHook', 'IterSeedHook',
    'MaskBinarizationHook', 'OnceForAllHook', 'ShrinkHook'
]
