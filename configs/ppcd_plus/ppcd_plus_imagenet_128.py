# Pruned as PPCD-GAN is, taught otherwise: the teacher's pixels and the
# discriminator's features in place of attention, the teacher's images as what is
# real, shared masks, so that every pruned channel leaves, and one on the layer
# that the noise enters by.
_base_ = '../ppcd_gan/ppcd_biggan_128_alpha06.py'

model = dict(
    generator=dict(residual_masks='shared', masked_linears=['noise2feat']),
    distillation_loss=_base_.ppcd.copying,
    teacher_as_real=1.0,
)
