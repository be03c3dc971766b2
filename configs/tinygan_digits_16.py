# Baseline Tiny-GAN (Chang and Lu, 2020): black-box distillation of a smaller
# generator by pixels, features of the discriminator, and adversarially.
_base_ = 'ppcd_digits_16_dense.py'

model = dict(
    type='ImageDistillationGAN',
    generator=dict(base_channels=16),
    pixel_weight=10.0,
    feature_weight=1.0,
    feature_layers='discriminator.conv_blocks.*',
)
