# The paper's own rule (Eq. 3): a channel falls when training has pushed its
# score to the threshold. L_PP weighs what it takes to get there in time: scores
# only decide what falls, so its weight moves nothing else.
_base_ = 'ppcd_cifar10_16_alpha06.py'

model = dict(pruning_loss=dict(loss_weight=1.0))
default_hooks = dict(mask_binarization=dict(schedule='threshold'))
