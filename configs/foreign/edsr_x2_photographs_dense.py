"""MMagic's EDSR x2, a small one, on photographs of scikit-image, which
tools/prepare_photographs.py writes; nothing is pruned."""

_base_ = ['mmagic::edsr/edsr_x2c64b16_1xb16-300k_div2k.py', '_base_/ppcd.py']

model = dict(generator=dict(mid_channels=32, num_blocks=4))

photographs = 'data/photographs'
train_pipeline = _base_.train_pipeline
train_pipeline[3]['gt_patch_size'] = 48
train_dataloader = dict(
    num_workers=0,
    batch_size=8,
    dataset=dict(
        ann_file='',
        data_root=f'{photographs}/train',
        data_prefix=dict(_delete_=True, img='lq', gt='gt'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        data_root=f'{photographs}/test', data_prefix=dict(img='lq', gt='gt')
    ),
)
test_dataloader = dict(
    _delete_=True,
    **dict(
        _base_.val_dataloader,
        num_workers=0,
        dataset=dict(
            _base_.val_dataloader.dataset,
            data_root=f'{photographs}/test',
            data_prefix=dict(img='lq', gt='gt'),
        ),
    ),
)
test_evaluator = dict(_delete_=True, **_base_.val_evaluator)

train_cfg = dict(
    _delete_=True, type='ResumableTrainLoop', max_iters=2000, val_interval=500
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    by_epoch=False,
    begin=0,
    end=2000,
    eta_min=1e-5,
)
custom_hooks = []
default_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type='SafeCheckpointHook',
        interval=1000,
        by_epoch=False,
        max_keep_ckpts=1,
    ),
    iter_seed=dict(type='IterSeedHook'),
)
randomness = dict(seed=0, diff_rank_seed=True)
