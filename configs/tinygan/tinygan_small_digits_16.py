# Tiny-GAN of about the size of PPCD-GAN+'s export.
_base_ = 'tinygan_digits_16.py'

model = dict(generator=dict(base_channels=10))
