"""MMagic's DCGAN, half of whose generator's channels are pruned."""

_base_ = [
    'mmagic::dcgan/dcgan_Glr4e-4_Dlr1e-4_1xb128-5kiters_mnist-64x64.py',
    '_base_/ppcd.py',
]

model = dict(
    generator=dict(
        _delete_=True, generator=_base_.model.generator, **_base_.masked
    )
)
custom_hooks = [*_base_.custom_hooks, *_base_.pruning]
custom_hooks[-1].update(begin=500, end=4000)
