_base_ = '../default_runtime.py'

max_iters = 1500
train_cfg = dict(
    type='ResumableTrainLoop', max_iters=max_iters, val_interval=max_iters
)
optim_wrapper = dict(
    generator=dict(
        optimizer=dict(type='Adam', lr=5e-4, betas=(0.0, 0.999)),
        # the scores of the masks live on another scale than the weights
        paramwise_cfg=dict(custom_keys={'.mask.': dict(lr_mult=10)}),
    ),
    discriminator=dict(
        optimizer=dict(type='Adam', lr=1e-3, betas=(0.0, 0.999))
    ),
)
# constant for the first half, then down to a twentieth
param_scheduler = dict(
    type='LinearLR',
    start_factor=1.0,
    end_factor=0.05,
    begin=max_iters // 2,
    end=max_iters,
    by_epoch=False,
)

classifier = dict(
    type='DomainClassifier',
    num_classes=10,
    base_channels=48,
    feature_dim=128,
    depth=2,
)
val_evaluator = dict(
    metrics=[
        dict(
            type='DomainMetric',
            fake_nums=5000,
            classifier=classifier,
            checkpoint='checkpoints/classifier_cifar10_16.pth',
        )
    ]
)
test_evaluator = val_evaluator

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=250),
    visualization=dict(
        type='VisualizationHook',
        interval=500,
        fixed_input=True,
        n_samples=64,
        n_row=8,
        vis_kwargs_list=dict(type='Noise', name='fake_img'),
    ),
)
