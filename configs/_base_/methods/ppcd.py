# Class-aware distillation and progressive pruning: what a student of PPCD-GAN
# takes beside its model, its data and its schedule.
ppcd = dict(
    distillation_loss=dict(type='AttentionDistillationLoss', loss_weight=10.0),
    # what Tiny-GAN compares: pixels, and features of the discriminator
    copying=[
        dict(type='PixelDistillationLoss', loss_weight=10.0),
        dict(type='DiscriminatorFeatureLoss', loss_weight=1.0),
    ],
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
    mask_binarization=dict(
        type='MaskBinarizationHook', alpha=0.6, schedule='cubic'
    ),
)
