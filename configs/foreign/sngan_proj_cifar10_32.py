"""MMagic's SNGAN with a projection discriminator, pruned by half."""
_base_ = ('mmagic::sngan_proj/sngan-proj_woReLUinplace_lr2e-4-ndisc5-1xb64_'
          'cifar10-32x32.py')

custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)
model = dict(
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
