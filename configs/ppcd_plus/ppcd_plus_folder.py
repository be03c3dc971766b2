# PPCD-GAN+ on your own pictures, under a BigGAN trained on them.
_base_ = '../ppcd_gan/ppcd_folder.py'

model = dict(
    generator=dict(residual_masks='shared', masked_linears=['noise2feat']),
    distillation_loss=[_base_.ppcd.distillation_loss, *_base_.ppcd.copying],
    teacher_as_real=1.0,
)
