"""MMagic's BigGAN for CIFAR-10, pruned by half; its EMA copy follows."""
_base_ = 'mmagic::biggan/biggan_2xb25-500kiters_cifar10-32x32.py'

custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)
model = dict(
    noise_size=128,
    generator=dict(
        _delete_=True,
        type='MaskedGenerator',
        generator=_base_.model.generator,
        # a score for what only leaves together, as along the residual path
        tie=True))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ExtraLossesHook'),
    dict(
        type='MaskBinarizationHook',
        alpha=0.5,
        schedule='cubic',
        begin=50000,
        end=400000),
]
