# PPCD-GAN on CIFAR-10: prune up to 60 % of every mask while training.
_base_ = 'ppcd_cifar10_32_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(
        _base_.ppcd.mask_binarization, interval=100, begin=10000, end=250000
    )
)
