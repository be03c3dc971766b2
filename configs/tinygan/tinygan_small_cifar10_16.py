# Tiny-GAN of about the size of PPCD-GAN+'s export, which is half of PPCD-GAN's.
_base_ = 'tinygan_cifar10_16.py'

model = dict(generator=dict(base_channels=20))
