"""MMagic's EDSR x2, pruned by half."""

_base_ = ['mmagic::edsr/edsr_x2c64b16_1xb16-300k_div2k.py', '_base_/ppcd.py']

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
default_hooks['mask_binarization'].update(begin=30000, end=200000)
randomness = dict(seed=0, diff_rank_seed=True)
