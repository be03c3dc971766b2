# The teacher of CIFAR-10: MMagic's BigGAN for it.
_base_ = [
    '../_base_/models/cifar10_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]

model = dict(
    generator=_base_.biggan_generator,
    discriminator=dict(
        _delete_=True,
        type='BigGANDiscriminator',
        input_scale=32,
        num_classes=_base_.num_classes,
        base_channels=64,
        sn_eps=1e-8,
        sn_style='torch',
        with_spectral_norm=True,
        init_cfg=dict(type='N02'),
    ),
    discriminator_steps=4,
)
train_dataloader = dict(batch_size=50)
optim_wrapper = dict(
    generator=dict(optimizer=dict(betas=(0.0, 0.999))),
    discriminator=dict(optimizer=dict(betas=(0.0, 0.999))),
)
