# PPCD-GAN on ImageNet 128 x 128 under a BigGAN teacher, alpha 0.6.
# 8 GPUs: torchrun --nproc_per_node 8 tools/train.py <this> --launcher pytorch
_base_ = [
    '_base_/models/imagenet_128.py', '_base_/datasets/imagenet_128.py',
    '_base_/schedules/imagenet_128.py'
]

model = dict(
    teacher=dict(
        type='BigGANTeacher',
        generator=_base_.biggan_generator,
        checkpoint='checkpoints/biggan_imagenet_128.pth'),
    distillation_loss=dict(type='AttentionDistillationLoss', loss_weight=10.0),
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1))

alpha = 0.6
custom_hooks = _base_.custom_hooks + [
    dict(
        type='MaskBinarizationHook',
        alpha=alpha,
        schedule='cubic',
        interval=100,
        begin=20000,
        end=500000)
]
