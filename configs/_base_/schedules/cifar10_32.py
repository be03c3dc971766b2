# Batch 64 and the rates of MMagic's SAGAN for CIFAR-10; the generator learns in
# every fifth iteration.
_base_ = 'cifar10_16.py'

max_iters = 500000
train_cfg = dict(max_iters=max_iters, val_interval=10000)
optim_wrapper = dict(
    generator=dict(optimizer=dict(lr=2e-4, betas=(0.5, 0.999))),
    discriminator=dict(optimizer=dict(lr=2e-4, betas=(0.5, 0.999))),
)
param_scheduler = None

# Inception of StyleGAN2-ADA, from disk; never fetched by itself.
inception_path = 'data/inception/inception-2015-12-05.pt'
metrics = [
    dict(
        type='FrechetInceptionDistance',
        prefix='FID-Full-50k',
        fake_nums=50000,
        real_nums=-1,
        real_key='gt_img',
        inception_style='StyleGAN',
        inception_path=inception_path,
        sample_model='ema',
    ),
    dict(
        type='InceptionScore',
        prefix='IS-50k',
        fake_nums=50000,
        inception_style='StyleGAN',
        inception_path=inception_path,
        sample_model='ema',
    ),
]
val_evaluator = dict(
    metrics=[
        *metrics,
        dict(
            type='DomainMetric',
            fake_nums=10000,
            classifier=dict(
                type='DomainClassifier',
                num_classes=10,
                base_channels=96,
                feature_dim=128,
                depth=2,
            ),
            checkpoint='work_dirs/classifier_cifar10_32/iter_12000.pth',
        ),
    ]
)
test_evaluator = val_evaluator

default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(interval=10000, max_keep_ckpts=3),
    visualization=dict(interval=5000),
)
