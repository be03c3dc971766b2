_base_ = '../default_runtime.py'

max_iters = 50000
train_cfg = dict(
    type='ResumableTrainLoop', max_iters=max_iters, val_interval=5000
)
optim_wrapper = dict(
    generator=dict(
        optimizer=dict(type='Adam', lr=2e-4, betas=(0.0, 0.999)),
        paramwise_cfg=dict(custom_keys={'.mask.': dict(lr_mult=10)}),
    ),
    discriminator=dict(
        optimizer=dict(type='Adam', lr=4e-4, betas=(0.0, 0.999))
    ),
)

default_hooks = dict(
    checkpoint=dict(interval=5000),
    visualization=dict(
        type='VisualizationHook',
        interval=1000,
        fixed_input=True,
        n_samples=36,
        n_row=6,
        vis_kwargs_list=dict(type='Noise', name='fake_img'),
    ),
)
