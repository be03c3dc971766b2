# Table A, complete: class-aware distillation, pruned to alpha 0.5.
_base_ = 'ppcd_cifar10_32_alpha06.py'

default_hooks = dict(mask_binarization=dict(alpha=0.5))
