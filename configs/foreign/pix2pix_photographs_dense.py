"""MMagic's pix2pix, a small one, from eight colours to photographs of
scikit-image (tools/prepare_photographs.py writes both); nothing is pruned."""

_base_ = [
    'mmagic::pix2pix/pix2pix_vanilla-unet-bn_1xb1-80kiters_facades.py',
    '_base_/ppcd.py',
]

model = dict(
    generator=dict(num_down=6, base_channels=16),
    discriminator=dict(base_channels=16, num_conv=2),
)

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='FixedCrop', keys=['img_A', 'img_B'], crop_size=(64, 64)),
    *_base_.train_pipeline[3:],
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    batch_size=8,
    dataset=dict(data_root='data/photographs/pairs', pipeline=train_pipeline),
)
# FID of three photographs would say nothing; docs/foreign.md has PSNR
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None

train_cfg = dict(_delete_=True, type='ResumableTrainLoop', max_iters=3000)
optim_wrapper = dict(
    generators=dict(optimizer=dict(lr=1e-3)),
    discriminators=dict(optimizer=dict(lr=5e-4)),
)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=False, begin=0, end=3000, eta_min=1e-5
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
randomness = dict(_delete_=True, seed=0, diff_rank_seed=True)
