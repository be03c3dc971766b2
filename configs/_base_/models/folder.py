# What generators of a folder of pictures are trained with.
_base_ = ['few_images.py', '../datasets/folder.py']

noise_size = 120
num_classes = _base_.num_classes
size = _base_.size

# the teacher: BigGAN
biggan_generator = dict(
    type='BigGANGenerator',
    output_scale=size,
    noise_size=noise_size,
    num_classes=num_classes,
    # as MMagic's settings of a size count: at 32 px all blocks are 4 times that
    base_channels=64 if size == 32 else 32,
    shared_dim=64,
    sn_style='torch',
    auto_sync_bn=False,
)

model = dict(
    num_classes=num_classes,
    noise_size=noise_size,
    discriminator=dict(
        discriminator=dict(input_scale=size, num_classes=num_classes)
    ),
    loss_config=dict(disc_auxiliary_loss=dict(loss_weight=0.1)),
    ema_config=dict(momentum=0.001),
)
