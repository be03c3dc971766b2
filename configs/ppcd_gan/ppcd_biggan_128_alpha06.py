# PPCD-GAN on ImageNet 128 x 128 under a BigGAN teacher, alpha 0.6.
# 8 GPUs: torchrun --nproc_per_node 8 tools/train.py <this> --launcher pytorch
_base_ = 'ppcd_biggan_128_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=_base_.ppcd.pruning_loss,
)
default_hooks = dict(
    mask_binarization=dict(
        _base_.ppcd.mask_binarization, interval=100, begin=20000, end=500000
    )
)
