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
optim_wrapper = dict(generators=dict(paramwise_cfg=_base_.mask_rates))
default_hooks = dict(_base_.pruning)
default_hooks['mask_binarization'].update(begin=300, end=1800)
