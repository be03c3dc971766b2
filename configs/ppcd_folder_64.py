# PPCD-GAN on your own pictures at 64 px, under a BigGAN trained on them.
_base_ = 'biggan_folder_64.py'

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
    distillation_loss=dict(type='AttentionDistillationLoss', loss_weight=10.0),
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
)
custom_hooks = _base_.custom_hooks + [
    dict(
        type='MaskBinarizationHook',
        alpha=0.6,
        schedule='cubic',
        interval=50,
        begin=2000,
        end=25000,
    )
]
