# What all generators of the digits are trained with.
noise_size = 24
num_classes = 10

# the teacher: BigGAN of base 16 with two blocks
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=16,
    noise_size=noise_size,
    num_classes=num_classes,
    shared_dim=32,
    sn_style='torch',
    auto_sync_bn=False,
    arch_cfg=dict(
        in_channels=[64, 64],
        out_channels=[64, 32],
        upsample=[True, True],
        resolution=[8, 16],
        attention=[False, False]))
# the student, dense: SAGAN
sagan_generator = dict(
    type='SAGANGenerator',
    output_scale=16,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=24,
    channels_cfg=[2, 2],
    attention_after_nth_block=1,
    with_spectral_norm=True,
    auto_sync_bn=False)

model = dict(
    type='PPCDGAN',
    num_classes=num_classes,
    noise_size=noise_size,
    data_preprocessor=dict(type='DataPreprocessor'),
    # 1,797 images are few: without augmentation and R1 the discriminator
    # learns them by heart and the generator draws one digit per class
    discriminator=dict(
        type='AugmentedDiscriminator',
        discriminator=dict(
            type='ProjDiscriminator',
            input_scale=16,
            num_classes=num_classes,
            base_channels=32,
            channels_cfg=[2, 2],
            downsample_cfg=[True, False],
            with_spectral_norm=False)),
    loss_config=dict(
        gan_loss=dict(type='GANLoss', gan_type='hinge'),
        disc_auxiliary_loss=dict(
            type='R1GradientPenaltyComps',
            loss_weight=0.02,
            norm_mode='HWC',
            data_info=dict(discriminator='disc', real_data='real_imgs'))),
    ema_config=dict(
        type='ExponentialMovingAverage', momentum=0.01, interval=1))
