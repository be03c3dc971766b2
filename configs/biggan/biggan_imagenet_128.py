# Baseline Big-GAN, and the teacher of ImageNet where you have no checkpoint of
# one: with its own discriminator, as in MMagic.
_base_ = [
    '../_base_/models/imagenet_128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/imagenet_128.py',
]

model = dict(
    generator=_base_.biggan_generator,
    discriminator=dict(
        _delete_=True,
        type='BigGANDiscriminator',
        input_scale=128,
        num_classes=_base_.num_classes,
        base_channels=96,
        sn_eps=1e-6,
        with_spectral_norm=True,
        init_cfg=dict(type='N02'),
    ),
)
