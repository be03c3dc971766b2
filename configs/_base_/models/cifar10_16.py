# What all generators of CIFAR-10 at 16 px are trained with.
noise_size = 120
num_classes = 10

# the teacher: BigGAN of two blocks
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=16,
    noise_size=noise_size,
    num_classes=num_classes,
    shared_dim=128,
    sn_style='torch',
    auto_sync_bn=False,
    arch_cfg=dict(
        in_channels=[128, 128],
        out_channels=[128, 64],
        upsample=[True, True],
        resolution=[8, 16],
        attention=[False, False],
    ),
)
# the student, dense: SAGAN
sagan_generator = dict(
    type='SAGANGenerator',
    output_scale=16,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=48,
    channels_cfg=[2, 2],
    attention_after_nth_block=1,
    with_spectral_norm=True,
    auto_sync_bn=False,
)

model = dict(
    type='PPCDGAN',
    num_classes=num_classes,
    noise_size=noise_size,
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=dict(
        type='ProjDiscriminator',
        input_scale=16,
        num_classes=num_classes,
        base_channels=48,
        channels_cfg=[2, 2],
        downsample_cfg=[True, False],
        with_spectral_norm=True,
    ),
    ema_config=dict(
        type='ExponentialMovingAverage', interval=1, momentum=0.005
    ),
)
