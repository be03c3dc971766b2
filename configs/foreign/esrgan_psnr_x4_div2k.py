"""MMagic's ESRGAN generator (trained for PSNR), pruned by half."""

_base_ = [
    'mmagic::esrgan/esrgan_psnr-x4c64b23g32_1xb16-1000k_div2k.py',
    '_base_/ppcd.py',
]

model = dict(
    generator=dict(
        _delete_=True,
        generator=_base_.model.generator,
        input_shape=(3, 24, 24),
        **_base_.masked,
    )
)
train_cfg = dict(type='ResumableTrainLoop')
optim_wrapper = dict(paramwise_cfg=_base_.mask_rates)
default_hooks = dict(_base_.pruning)
# of an L1 of about 0.03
default_hooks['extra_losses']['pruning_loss'].update(loss_weight=1e-3)
default_hooks['mask_binarization'].update(begin=100000, end=700000)
randomness = dict(seed=0, diff_rank_seed=True)
