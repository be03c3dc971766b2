# Batch 256 and the learning rates of SAGAN.
_base_ = '../default_runtime.py'

train_cfg = dict(
    type='ResumableTrainLoop', max_iters=1000000, val_interval=10000
)
optim_wrapper = dict(
    generator=dict(
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.0, 0.999)),
        paramwise_cfg=dict(custom_keys={'.mask.': dict(lr_mult=10)}),
    ),
    discriminator=dict(
        optimizer=dict(type='Adam', lr=4e-4, betas=(0.0, 0.999))
    ),
)


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
val_evaluator = dict(metrics=metrics)
test_evaluator = val_evaluator

default_hooks = dict(
    checkpoint=dict(
        max_keep_ckpts=5,
        save_best=['FID-Full-50k/fid', 'IS-50k/is'],
        rule=['less', 'greater'],
    ),
    visualization=dict(
        type='VisualizationHook',
        interval=5000,
        fixed_input=True,
        vis_kwargs_list=dict(
            type='Noise',
            name='fake_img',
            sample_model='ema/orig',
            target_keys=['ema.fake_img', 'orig.fake_img'],
        ),
    ),
)
