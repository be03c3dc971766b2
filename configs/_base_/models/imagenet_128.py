# BigGAN's noise is 120 (six chunks of 20); the student's is set to it, since
# both see the same noise.
noise_size = 120
num_classes = 1000

# the teacher: BigGAN-128, base 96, 70,433,988 parameters
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=128,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=96,
    shared_dim=128,
    with_shared_embedding=True,
    sn_eps=1e-6,
    split_noise=True,
    auto_sync_bn=False,
    init_cfg=dict(type='N02'),
)

# the student, dense: SAGAN as in MMagic's ImageNet config (BigGAN's
# launch_SAGAN scripts), 42 million parameters
sagan_generator = dict(
    type='SAGANGenerator',
    output_scale=128,
    noise_size=noise_size,
    num_classes=num_classes,
    base_channels=64,
    attention_after_nth_block=4,
    with_spectral_norm=True,
    with_embedding_spectral_norm=False,
    norm_eps=1e-5,
    sn_eps=1e-8,
    auto_sync_bn=False,
    init_cfg=dict(type='BigGAN'),
)

model = dict(
    type='PPCDGAN',
    num_classes=num_classes,
    noise_size=noise_size,
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=dict(
        type='ProjDiscriminator',
        input_scale=128,
        num_classes=num_classes,
        base_channels=64,
        attention_after_nth_block=1,
        with_spectral_norm=True,
        sn_eps=1e-8,
        init_cfg=dict(type='BigGAN'),
    ),
    ema_config=dict(
        type='ExponentialMovingAverage',
        interval=1,
        momentum=0.001,
        start_iter=2000,
    ),
)
