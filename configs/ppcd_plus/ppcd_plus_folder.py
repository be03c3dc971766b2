# PPCD-GAN+ on your own pictures, under a BigGAN trained on them.
_base_ = '../ppcd_gan/ppcd_folder.py'

work_dir = f'work_dirs/ppcd_plus_folder_{_base_.size}'
model = dict(
    generator=dict(residual_masks='shared', masked_linears=['noise2feat']),
    distillation_loss=_base_.ppcd.copying,
    teacher_as_real=1.0,
)
