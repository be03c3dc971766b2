# PPCD-GAN on ImageNet 128 x 128 under a BigGAN teacher, alpha 0.6.
# 8 GPUs: torchrun --nproc_per_node 8 tools/train.py <this> --launcher pytorch
_base_ = 'ppcd_biggan_128_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
)
custom_hooks = _base_.custom_hooks + [
    dict(
        type='MaskBinarizationHook',
        alpha=0.6,
        schedule='cubic',
        interval=100,
        begin=20000,
        end=500000,
    )
]
