# PPCD-GAN on the digits: prune up to 60 % of every mask while training.
_base_ = 'ppcd_digits_16_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(_base_.ppcd.mask_binarization, begin=100, end=500)
)
