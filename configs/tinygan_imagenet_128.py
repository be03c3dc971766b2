# Baseline Tiny-GAN (Chang and Lu, 2020): black-box distillation of a smaller
# generator by pixels, features of the discriminator, and adversarially.
_base_ = 'ppcd_biggan_128_dense.py'

model = dict(
    type='ImageDistillationGAN',
    generator=dict(base_channels=32),
    pixel_weight=10.0,
    feature_weight=1.0,
)
