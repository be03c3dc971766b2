# What generators of a folder of pictures are trained with, at 64 px.
_base_ = ['few_images.py', '../datasets/folder_64.py']

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
    auto_sync_bn=False,
)

model = dict(
    num_classes=num_classes,
    noise_size=noise_size,
    discriminator=dict(
        discriminator=dict(input_scale=64, num_classes=num_classes)
    ),
    loss_config=dict(disc_auxiliary_loss=dict(loss_weight=0.1)),
    ema_config=dict(momentum=0.001),
)
