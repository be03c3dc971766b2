# Baseline PPCD-GAN*: prune after training (all at once, in the first of these
# iterations), then fine-tune. Train ppcd_cifar10_16_alpha00.py first.
_base_ = 'ppcd_cifar10_16_alpha06.py'

load_from = 'work_dirs/ppcd_cifar10_16_alpha00/iter_1500.pth'
train_cfg = dict(max_iters=750, val_interval=750)
param_scheduler = dict(begin=0, end=750)
default_hooks = dict(mask_binarization=dict(schedule='linear', begin=0, end=1))
