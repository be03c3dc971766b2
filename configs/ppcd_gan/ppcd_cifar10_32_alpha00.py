# PPCD-GAN whose masks are trained but prune nothing: what PPCD-GAN* starts from.
_base_ = 'ppcd_cifar10_32_alpha06.py'

default_hooks = dict(mask_binarization=dict(alpha=0.0))
