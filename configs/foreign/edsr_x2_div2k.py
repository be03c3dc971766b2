"""MMagic's EDSR x2, pruned by half."""
_base_ = 'mmagic::edsr/edsr_x2c64b16_1xb16-300k_div2k.py'

custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)
model = dict(
    generator=dict(
        _delete_=True,
        type='MaskedGenerator',
        generator=_base_.model.generator,
        input_shape=(3, 24, 24),
        tie=True))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ExtraLossesHook'),
    dict(
        type='MaskBinarizationHook',
        alpha=0.5,
        schedule='cubic',
        begin=30000,
        end=200000),
]
