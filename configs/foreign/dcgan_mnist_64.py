"""MMagic's DCGAN, half of whose generator's channels are pruned."""

_base_ = [
    'mmagic::dcgan/dcgan_Glr4e-4_Dlr1e-4_1xb128-5kiters_mnist-64x64.py',
    '_base_/ppcd.py',
]

model = dict(
    generator=dict(
        _delete_=True, generator=_base_.model.generator, **_base_.masked
    )
)
train_cfg = dict(
    _delete_=True,  # a loop by its name takes no by_epoch
    type='ResumableTrainLoop',
    max_iters=_base_.train_cfg.max_iters,
    val_interval=_base_.train_cfg.val_interval,
)
optim_wrapper = dict(generator=dict(paramwise_cfg=_base_.mask_rates))
default_hooks = dict(_base_.pruning)
default_hooks['mask_binarization'].update(begin=500, end=4000)
