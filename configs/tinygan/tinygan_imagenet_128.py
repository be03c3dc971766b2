# Baseline Tiny-GAN (Chang and Lu, 2020): black-box distillation of a smaller
# generator by pixels, features of the discriminator, and adversarially, where
# the teacher's images are what is real.
_base_ = '../ppcd_gan/ppcd_biggan_128_dense.py'

model = dict(
    generator=dict(base_channels=32),
    distillation_loss=_base_.ppcd.copying,
    teacher_as_real=1.0,
)
