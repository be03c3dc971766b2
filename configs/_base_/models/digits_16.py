# What all generators of the digits are trained with.
_base_ = 'few_images.py'

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
        attention=[False, False],
    ),
)
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
    auto_sync_bn=False,
)

model = dict(
    num_classes=num_classes,
    noise_size=noise_size,
    discriminator=dict(
        discriminator=dict(
            input_scale=16,
            num_classes=num_classes,
            channels_cfg=[2, 2],
            downsample_cfg=[True, False],
        )
    ),
    loss_config=dict(disc_auxiliary_loss=dict(loss_weight=0.02)),
    ema_config=dict(momentum=0.01),
)
