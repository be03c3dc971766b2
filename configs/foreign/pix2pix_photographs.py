"""The same, its U-Net pruned by half while it trains."""

_base_ = 'pix2pix_photographs_dense.py'

model = dict(
    generator=dict(
        _delete_=True,
        generator=_base_.model.generator,
        input_shape=(3, 64, 64),
        **_base_.masked,
    )
)
optim_wrapper = dict(
    generators=dict(
        paramwise_cfg=dict(custom_keys={'.mask.': dict(lr_mult=10)})
    )
)
default_hooks = dict(_base_.pruning)
default_hooks['extra_losses']['pruning_loss'] = dict(
    type='MaskL1Loss', loss_weight=0.1
)
default_hooks['mask_binarization'].update(begin=300, end=1800)
