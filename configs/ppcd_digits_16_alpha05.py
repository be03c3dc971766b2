# Table A, complete: class-aware distillation, pruned to alpha 0.5.
_base_ = 'ppcd_digits_16_alpha06.py'

custom_hooks = _base_.custom_hooks
custom_hooks[-1]['alpha'] = 0.5
