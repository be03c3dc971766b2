# PPCD-GAN on your own pictures at 64 px, under a BigGAN trained on them.
_base_ = ['../biggan/biggan_folder_64.py', '../_base_/methods/ppcd.py']

model = dict(
    generator=dict(
        _delete_=True,
        type='PPResSAGANGenerator',
        output_scale=64,
        noise_size=_base_.noise_size,
        num_classes=_base_.num_classes,
        base_channels=24,
        attention_after_nth_block=3,
        with_spectral_norm=True,
        auto_sync_bn=False,
    ),
    teacher=dict(
        type='GeneratorTeacher',
        generator=_base_.biggan_generator,
        checkpoint='work_dirs/biggan_folder_64/iter_50000.pth',
    ),
    distillation_loss=_base_.ppcd.distillation_loss,
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(
        _base_.ppcd.mask_binarization, interval=50, begin=2000, end=25000
    )
)
