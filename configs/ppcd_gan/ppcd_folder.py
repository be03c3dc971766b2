# PPCD-GAN on your own pictures, under a BigGAN trained on them.
_base_ = ['../biggan/biggan_folder.py', '../_base_/methods/ppcd.py']

work_dir = f'work_dirs/ppcd_folder_{_base_.size}'
model = dict(
    generator=dict(
        _delete_=True,
        type='PPResSAGANGenerator',
        output_scale=_base_.size,
        noise_size=_base_.noise_size,
        num_classes=_base_.num_classes,
        # as MMagic's settings of a size count: at 32 px all blocks are that
        # wide, and attention is at 16 px, else at 32
        base_channels=192 if _base_.size == 32 else 24,
        attention_after_nth_block=2 if _base_.size == 32 else 3,
        with_spectral_norm=True,
        auto_sync_bn=False,
    ),
    teacher=dict(
        type='GeneratorTeacher',
        generator=_base_.biggan_generator,
        checkpoint=f'work_dirs/biggan_folder_{_base_.size}/iter_50000.pth',
    ),
    distillation_loss=_base_.ppcd.distillation_loss,
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(
        _base_.ppcd.mask_binarization, interval=50, begin=2000, end=25000
    )
)
