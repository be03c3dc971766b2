"""MMagic's DCGAN, half of whose generator's channels are pruned."""
_base_ = 'mmagic::dcgan/dcgan_Glr4e-4_Dlr1e-4_1xb128-5kiters_mnist-64x64.py'

custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)
model = dict(
    generator=dict(
        _delete_=True,
        type='MaskedGenerator',
        generator=_base_.model.generator))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ExtraLossesHook'),
    dict(
        type='MaskBinarizationHook',
        alpha=0.5,
        schedule='cubic',
        begin=500,
        end=4000),
]
