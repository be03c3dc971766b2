custom_imports = dict(
    allow_failed_imports=False, imports=[
        'ppcd_mmagic',
    ])
default_scope = 'ppcd_mmagic'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
log_level = 'ERROR'
model = dict(
    data_preprocessor=dict(type='DataPreprocessor'),
    discriminator=None,
    generator=dict(
        generator=dict(
            attention_after_nth_block=1,
            attention_cfg=dict(
                type='SelfAttentionBlock', with_spectral_norm=False),
            auto_sync_bn=False,
            base_channels=4,
            channels_cfg=[
                2,
                2,
            ],
            noise_size=24,
            num_classes=10,
            output_scale=16,
            type='SAGANGenerator',
            with_embedding_spectral_norm=False,
            with_spectral_norm=False),
        layer_sizes=dict({
            'conv_blocks.0.conv_1.conv': (
                4,
                8,
            ),
            'conv_blocks.0.conv_2.conv': (
                7,
                4,
            ),
            'conv_blocks.0.norm_2.bias_embedding': (4, ),
            'conv_blocks.0.norm_2.norm': (4, ),
            'conv_blocks.0.norm_2.weight_embedding': (4, ),
            'conv_blocks.0.shortcut.conv': (
                7,
                8,
            ),
            'conv_blocks.1.g.conv': (
                4,
                7,
            ),
            'conv_blocks.1.o.conv': (
                7,
                4,
            ),
            'conv_blocks.1.phi.conv': (
                1,
                7,
            ),
            'conv_blocks.1.theta.conv': (
                1,
                7,
            ),
            'conv_blocks.2.conv_1.conv': (
                2,
                7,
            ),
            'conv_blocks.2.conv_2.conv': (
                3,
                2,
            ),
            'conv_blocks.2.norm_1.bias_embedding': (7, ),
            'conv_blocks.2.norm_1.norm': (7, ),
            'conv_blocks.2.norm_1.weight_embedding': (7, ),
            'conv_blocks.2.norm_2.bias_embedding': (2, ),
            'conv_blocks.2.norm_2.norm': (2, ),
            'conv_blocks.2.norm_2.weight_embedding': (2, ),
            'conv_blocks.2.shortcut.conv': (
                3,
                7,
            ),
            'to_rgb.bn': (3, ),
            'to_rgb.conv': (
                3,
                3,
            )
        }),
        type='ppcd_mmagic.PrunedGenerator'),
    num_classes=10,
    type='SAGAN')
randomness = dict(diff_rank_seed=True, seed=2022)
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
            sample_model='orig',
            type='DomainMetric'),
    ],
    type='Evaluator')
vis_backends = [
    dict(type='VisBackend'),
]
visualizer = dict(
    type='Visualizer', vis_backends=[
        dict(type='VisBackend'),
    ])
