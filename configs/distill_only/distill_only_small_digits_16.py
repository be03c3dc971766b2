# Distill only of about the size of PPCD-GAN+'s export.
_base_ = 'distill_only_digits_16.py'

model = dict(generator=dict(base_channels=10))
