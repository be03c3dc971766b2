"""MMagic's pix2pix, whose U-Net is pruned by half."""
_base_ = 'mmagic::pix2pix/pix2pix_vanilla-unet-bn_1xb1-80kiters_facades.py'

custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)
model = dict(
    generator=dict(
        _delete_=True,
        type='MaskedGenerator',
        generator=_base_.model.generator,
        input_shape=(3, 256, 256)))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ExtraLossesHook'),
    dict(
        type='MaskBinarizationHook',
        alpha=0.5,
        schedule='cubic',
        begin=8000,
        end=60000),
]
