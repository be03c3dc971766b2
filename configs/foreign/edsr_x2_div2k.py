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
default_hooks = dict(_base_.pruning)
default_hooks['mask_binarization'].update(begin=30000, end=200000)
