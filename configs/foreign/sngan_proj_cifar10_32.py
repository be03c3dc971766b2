"""MMagic's SNGAN with a projection discriminator, pruned by half."""

_base_ = [
    'mmagic::sngan_proj/'
    'sngan-proj_woReLUinplace_lr2e-4-ndisc5-1xb64_cifar10-32x32.py',
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
default_hooks['mask_binarization'].update(begin=50000, end=400000)
