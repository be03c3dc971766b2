_base_ = '../default_runtime.py'

train_cfg = dict(type='ResumableTrainLoop', max_iters=400, val_interval=400)
val_cfg = dict(_delete_=True, type='ValLoop')
test_cfg = dict(_delete_=True, type='TestLoop')
val_evaluator = dict(
    _delete_=True,
    type='mmengine.Evaluator',
    metrics=[dict(type='Top1Accuracy')],
)
test_evaluator = val_evaluator
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-3, weight_decay=1e-4),
)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=False, T_max=400, eta_min=1e-5
)
model_wrapper_cfg = dict(_delete_=True, type='MMDistributedDataParallel')
default_hooks = dict(
    # MMagic's is for its own loops, and fails in a plain one
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(interval=50),
    checkpoint=dict(interval=400, max_keep_ckpts=2),
)
