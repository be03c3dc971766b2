"""MMagic's BigGAN for CIFAR-10, pruned by half; its EMA copy follows."""

_base_ = [
    'mmagic::biggan/biggan_2xb25-500kiters_cifar10-32x32.py',
    '_base_/ppcd.py',
]

model = dict(
    noise_size=128,
    generator=dict(
        _delete_=True, generator=_base_.model.generator, **_base_.masked
    ),
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
