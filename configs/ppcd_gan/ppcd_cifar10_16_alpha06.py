# PPCD-GAN on CIFAR-10 at 16 px: prune up to 60 % of every mask while training.
_base_ = 'ppcd_cifar10_16_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(_base_.ppcd.mask_binarization, begin=200, end=900)
)
