# What generators of a folder of pictures are trained with, at 64 px.
_base_ = '../datasets/folder_64.py'

noise_size = 120
num_classes = _base_.num_classes

# the teacher: BigGAN
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=64,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=32,
    shared_dim=64,
    sn_style='torch',
    auto_sync_bn=False)

model = dict(
    type='PPCDGAN',
    num_classes=num_classes,
    noise_size=noise_size,
    data_preprocessor=dict(type='DataPreprocessor'),
    # small collections are learnt by heart without augmentation and R1
    discriminator=dict(
        type='AugmentedDiscriminator',
        discriminator=dict(
            type='ProjDiscriminator',
            input_scale=64,
            num_classes=num_classes,
            base_channels=32,
            with_spectral_norm=False)),
    loss_config=dict(
        gan_loss=dict(type='GANLoss', gan_type='hinge'),
        disc_auxiliary_loss=dict(
            type='R1GradientPenaltyComps',
            loss_weight=0.1,
            norm_mode='HWC',
            data_info=dict(discriminator='disc', real_data='real_imgs'))),
    ema_config=dict(
        type='ExponentialMovingAverage', momentum=0.001, interval=1))
