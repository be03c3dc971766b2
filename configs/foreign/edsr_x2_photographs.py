"""The same, pruned by half while it trains."""

_base_ = 'edsr_x2_photographs_dense.py'

model = dict(
    generator=dict(
        _delete_=True,
        generator=_base_.model.generator,
        input_shape=(3, 24, 24),
        **_base_.masked,
    )
)
optim_wrapper = dict(paramwise_cfg=_base_.mask_rates)
default_hooks = dict(_base_.pruning)
# of an L1 of about 0.03
default_hooks['extra_losses']['pruning_loss'].update(loss_weight=1e-3)
default_hooks['mask_binarization'].update(begin=200, end=1200)
