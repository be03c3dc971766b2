# PPCD-GAN whose masks are trained but prune nothing: what PPCD-GAN* starts from.
_base_ = 'ppcd_biggan_128_alpha06.py'

custom_hooks = _base_.custom_hooks
custom_hooks[-1]['alpha'] = 0.0
