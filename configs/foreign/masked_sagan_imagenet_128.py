"""MMagic's SAGAN for ImageNet, pruned by half under a BigGAN-deep teacher,
MMagic's too."""

_base_ = [
    'mmagic::sagan/sagan_woReLUinplace-Glr1e-4_Dlr4e-4_noaug-ndisc1-8xb32-'
    'bigGAN-sch_imagenet1k-128x128.py',
    '_base_/ppcd.py',
]

model = dict(
    noise_size=128,
    generator=dict(
        _delete_=True, generator=_base_.model.generator, **_base_.masked
    ),
)
train_cfg = dict(
    _delete_=True,  # a loop by its name takes no by_epoch
    type='ResumableTrainLoop',
    max_iters=_base_.train_cfg.max_iters,
    val_interval=_base_.train_cfg.val_interval,
    dynamic_intervals=_base_.train_cfg.dynamic_intervals,
)
optim_wrapper = dict(generator=dict(paramwise_cfg=_base_.mask_rates))
default_hooks = dict(_base_.pruning)
default_hooks['extra_losses'].update(
    teacher=dict(
        type='GeneratorTeacher',
        generator=dict(
            type='BigGANDeepGenerator',
            output_scale=128,
            noise_size=128,
            num_classes=1000,
            base_channels=128,
            sn_style='torch',
            auto_sync_bn=False,
            rgb2bgr=True,
        ),
        checkpoint='checkpoints/biggan-deep_imagenet_128.pth',
    ),
    distillation_loss=dict(type='AttentionDistillationLoss', loss_weight=10.0),
)
default_hooks['mask_binarization'].update(begin=20000, end=500000)
