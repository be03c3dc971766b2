# What generators of small data sets are trained with. Few images are learnt by
# heart by a discriminator without augmentation and R1, and the generator then
# draws one picture per class.
model = dict(
    type='PPCDGAN',
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=dict(
        type='AugmentedDiscriminator',
        discriminator=dict(
            type='ProjDiscriminator', base_channels=32, with_spectral_norm=False
        ),
    ),
    loss_config=dict(
        gan_loss=dict(type='GANLoss', gan_type='hinge'),
        disc_auxiliary_loss=dict(
            type='R1GradientPenaltyComps',
            norm_mode='HWC',
            data_info=dict(discriminator='disc', real_data='real_imgs'),
        ),
    ),
    ema_config=dict(type='ExponentialMovingAverage', interval=1),
)
