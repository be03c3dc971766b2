# PPCD-GAN under a BigGAN-deep teacher, MMagic's for ImageNet 128 x 128: its
# features and the student's are compared at all the sizes that both have.
_base_ = 'ppcd_biggan_128_alpha06.py'

noise_size = 128  # of MMagic's checkpoint; student and teacher see the same
model = dict(
    noise_size=noise_size,
    generator=dict(noise_size=noise_size),
    teacher=dict(
        generator=dict(
            _delete_=True,
            type='BigGANDeepGenerator',
            output_scale=128,
            noise_size=noise_size,
            num_classes=_base_.num_classes,
            base_channels=128,
            sn_style='torch',
            auto_sync_bn=False,
            rgb2bgr=True,
        ),
        checkpoint='checkpoints/biggan-deep_imagenet_128.pth',
    ),
)
