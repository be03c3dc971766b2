# CIFAR-10 as pictures, in the folder that the environment variable CIFAR10
# names: train/<class>/<picture> and test/<class>/<picture>.
_base_ = 'cifar10_16.py'

load = [dict(type='LoadImageFromFile', key='gt', use_cache=True)]
pipeline = [*load, dict(type='PackInputs', keys='gt')]

train_dataloader = dict(
    num_workers=2, persistent_workers=True, dataset=dict(pipeline=pipeline)
)
val_dataloader = dict(
    num_workers=2, persistent_workers=True, dataset=dict(pipeline=pipeline)
)
test_dataloader = val_dataloader
