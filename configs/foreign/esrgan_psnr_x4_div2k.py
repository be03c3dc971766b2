"""MMagic's ESRGAN generator (trained for PSNR), pruned by half."""
_base_ = 'mmagic::esrgan/esrgan_psnr-x4c64b23g32_1xb16-1000k_div2k.py'

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
        begin=100000,
        end=700000),
]
