default_scope = 'ppcd_mmagic'
custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)

randomness = dict(seed=2022, diff_rank_seed=True)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # seconds that processes wait for each other before all of them end
    dist_cfg=dict(backend='nccl', timeout=1800),
)

# All hooks have names, so that each can be changed by its own, as
# default_hooks.mask_binarization.alpha; custom_hooks is left to you.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    finite_guard=dict(type='FiniteGuardHook'),
    stop_signal=dict(type='StopSignalHook'),
    short_history=dict(type='ShortHistoryHook'),
    checkpoint=dict(
        type='SafeCheckpointHook',
        interval=10000,
        by_epoch=False,
        max_keep_ckpts=3,
        save_optimizer=True,
    ),
    iter_seed=dict(type='IterSeedHook'),
)

log_level = 'INFO'
log_processor = dict(type='LogProcessor', by_epoch=False)
load_from = None
resume = False

# generator and discriminator are wrapped apart; what is frozen is not wrapped
model_wrapper_cfg = dict(
    type='MMSeparateDistributedDataParallel',
    broadcast_buffers=False,
    find_unused_parameters=False,
)

vis_backends = [dict(type='VisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

val_cfg = dict(type='MultiValLoop')
val_evaluator = dict(type='Evaluator')
test_cfg = dict(type='MultiTestLoop')
test_evaluator = dict(type='Evaluator')
optim_wrapper = dict(constructor='MultiOptimWrapperConstructor')
