# PPCD-GAN on the digits: prune up to 60 % of every mask while training.
_base_ = 'ppcd_digits_16_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator'),
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
)
custom_hooks = _base_.custom_hooks + [
    dict(
        type='MaskBinarizationHook',
        alpha=0.6,
        schedule='cubic',
        begin=100,
        end=500,
    )
]
