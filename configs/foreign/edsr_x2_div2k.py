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
custom_hooks = [*_base_.custom_hooks, *_base_.pruning]
custom_hooks[-1].update(begin=30000, end=200000)
