# What all generators of CIFAR-10 are trained with: widths of MMagic's own
# configs for it.
noise_size = 128
num_classes = 10

# the teacher: BigGAN of base 64
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=32,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=64,
    with_shared_embedding=False,
    sn_eps=1e-8,
    sn_style='torch',
    split_noise=False,
    auto_sync_bn=False,
    init_cfg=dict(type='N02'),
)
# the student, dense: SAGAN of base 256
sagan_generator = dict(
    type='SAGANGenerator',
    output_scale=32,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=256,
    attention_after_nth_block=2,
    with_spectral_norm=True,
    auto_sync_bn=False,
    init_cfg=dict(type='studio'),
)

model = dict(
    type='PPCDGAN',
    num_classes=num_classes,
    noise_size=noise_size,
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=dict(
        type='ProjDiscriminator',
        input_scale=32,
        num_classes=num_classes,
        base_channels=128,
        attention_after_nth_block=1,
        with_spectral_norm=True,
        init_cfg=dict(type='studio'),
    ),
    discriminator_steps=5,
    ema_config=dict(
        type='ExponentialMovingAverage',
        interval=1,
        momentum=0.0001,
        start_iter=1000,
    ),
)
