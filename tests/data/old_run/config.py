biggan_generator = dict(
    arch_cfg=dict(
        attention=[
            False,
            False,
        ],
        in_channels=[
            64,
            64,
        ],
        out_channels=[
            64,
            32,
        ],
        resolution=[
            8,
            16,
        ],
        upsample=[
            True,
            True,
        ]),
    auto_sync_bn=False,
    noise_size=24,
    num_classes=10,
    output_scale=16,
    shared_dim=32,
    sn_style='torch',
    type='BigGANGenerator')
custom_hooks = [
    dict(
        alpha=0.6,
        begin=1,
        end=40,
        schedule='linear',
        type='MaskBinarizationHook'),
    dict(interval=25, type='ShrinkHook'),
    dict(type='IterSeedHook'),
]
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'ppcd_mmagic',
    ])
dataset = dict(
    pipeline=[
        dict(keys='gt', type='PackInputs'),
    ],
    size=16,
    type='DigitsDataset')
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=40,
        max_keep_ckpts=-1,
        save_optimizer=True,
        type='CheckpointHook'),
    logger=dict(interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'ppcd_mmagic'
domain_metric = dict(
    checkpoint='work_dirs/classifier_digits_16/iter_400.pth',
    classifier=dict(num_classes=10, type='DomainClassifier'),
    fake_nums=1000,
    type='DomainMetric')
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
experiment_name = 'test_0'
load_from = None
log_level = 'ERROR'
log_processor = dict(by_epoch=False, type='LogProcessor')
max_iters = 800
model = dict(
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=dict(
        discriminator=dict(
            base_channels=4,
            channels_cfg=[
                2,
                2,
            ],
            downsample_cfg=[
                True,
                False,
            ],
            input_scale=16,
            num_classes=10,
            type='ProjDiscriminator',
            with_spectral_norm=False),
        type='AugmentedDiscriminator'),
    distillation_loss=dict(loss_weight=10.0, type='AttentionDistillationLoss'),
    ema_config=dict(interval=1, momentum=0.1, type='ExponentialMovingAverage'),
    generator=dict(
        attention_after_nth_block=1,
        auto_sync_bn=False,
        base_channels=4,
        channels_cfg=[
            2,
            2,
        ],
        noise_size=24,
        num_classes=10,
        output_scale=16,
        residual_masks='independent',
        type='PPResSAGANGenerator',
        with_spectral_norm=True),
    loss_config=dict(
        disc_auxiliary_loss=dict(
            data_info=dict(discriminator='disc', real_data='real_imgs'),
            loss_weight=0.02,
            norm_mode='HWC',
            type='R1GradientPenaltyComps'),
        gan_loss=dict(gan_type='hinge', type='GANLoss')),
    noise_size=24,
    num_classes=10,
    pruning_loss=dict(loss_weight=0.1, type='MaskL1Loss'),
    teacher=dict(
        checkpoint='checkpoints/biggan_digits_16.pth',
        generator=dict(
            arch_cfg=dict(
                attention=[
                    False,
                    False,
                ],
                in_channels=[
                    64,
                    64,
                ],
                out_channels=[
                    64,
                    32,
                ],
                resolution=[
                    8,
                    16,
                ],
                upsample=[
                    True,
                    True,
                ]),
            auto_sync_bn=False,
            noise_size=24,
            num_classes=10,
            output_scale=16,
            shared_dim=32,
            sn_style='torch',
            type='BigGANGenerator'),
        type='BigGANTeacher'),
    type='PPCDGAN')
model_wrapper_cfg = dict(
    broadcast_buffers=False,
    find_unused_parameters=False,
    type='MMSeparateDistributedDataParallel')
noise_size = 24
num_classes = 10
optim_wrapper = dict(
    constructor='MultiOptimWrapperConstructor',
    discriminator=dict(
        optimizer=dict(betas=(
            0.0,
            0.999,
        ), lr=0.002, type='Adam')),
    generator=dict(
        optimizer=dict(betas=(
            0.0,
            0.999,
        ), lr=0.005, type='Adam'),
        paramwise_cfg=dict(custom_keys=dict({'.mask.': dict(lr_mult=10)}))))
param_scheduler = dict(
    begin=3,
    by_epoch=False,
    end=40,
    end_factor=0.05,
    start_factor=1.0,
    type='LinearLR')
randomness = dict(diff_rank_seed=True, seed=2022)
resume = False
sagan_generator = dict(
    attention_after_nth_block=1,
    auto_sync_bn=False,
    base_channels=24,
    channels_cfg=[
        2,
        2,
    ],
    noise_size=24,
    num_classes=10,
    output_scale=16,
    type='SAGANGenerator',
    with_spectral_norm=True)
test_cfg = dict(type='MultiTestLoop')
test_dataloader = dict(
    batch_size=250,
    dataset=dict(
        pipeline=[
            dict(keys='gt', type='PackInputs'),
        ],
        size=16,
        type='DigitsDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    metrics=[
        dict(
            checkpoint='work_dirs/classifier_digits_16/iter_400.pth',
            classifier=dict(num_classes=10, type='DomainClassifier'),
            fake_nums=1000,
            type='DomainMetric'),
    ],
    type='Evaluator')
train_cfg = dict(max_iters=40, type='IterBasedTrainLoop', val_interval=100)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(keys='gt', type='PackInputs'),
        ],
        size=16,
        type='DigitsDataset'),
    num_workers=0,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
val_cfg = dict(type='MultiValLoop')
val_dataloader = dict(
    batch_size=250,
    dataset=dict(
        pipeline=[
            dict(keys='gt', type='PackInputs'),
        ],
        size=16,
        type='DigitsDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(metrics=[], type='Evaluator')
vis_backends = [
    dict(type='VisBackend'),
]
visualizer = dict(
    type='Visualizer', vis_backends=[
        dict(type='VisBackend'),
    ])
work_dir = 'work_dirs/old'
