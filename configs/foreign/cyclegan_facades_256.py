"""MMagic's CycleGAN, both of whose generators are pruned by half."""

_base_ = [
    'mmagic::cyclegan/cyclegan_lsgan-resnet-in_1xb1-80kiters_facades.py',
    '_base_/ppcd.py',
]

model = dict(
    generator=dict(
        _delete_=True,
        generator=_base_.model.generator,
        input_shape=(3, 64, 64),
        **_base_.masked,
    )
)
train_cfg = dict(
    _delete_=True,  # a loop by its name takes no by_epoch
    type='ResumableTrainLoop',
    max_iters=_base_.train_cfg.max_iters,
    val_interval=_base_.train_cfg.val_interval,
)
optim_wrapper = dict(generators=dict(paramwise_cfg=_base_.mask_rates))
default_hooks = dict(_base_.pruning)
default_hooks['mask_binarization'].update(begin=8000, end=60000)
