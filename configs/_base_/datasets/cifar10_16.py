# CIFAR-10 as pictures, in the folder that the environment variable CIFAR10
# names: train/<class>/<picture> and test/<class>/<picture>; here at 16 px.
data_root = __import__('os').environ.get('CIFAR10', 'data/cifar10')

# the files are kept in memory: they are small, and read many times
load = [
    dict(type='LoadImageFromFile', key='gt', use_cache=True),
    # the mean of 2 x 2 pixels; pictures of 16 px stay as they are
    dict(
        type='Resize',
        keys='gt',
        scale=(16, 16),
        backend='pillow',
        interpolation='box',
    ),
]
dataset = dict(
    type='PictureFolder',
    data_root=data_root,
    data_prefix='train',
    pipeline=[*load, dict(type='PackInputs', keys='gt')],
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dataset,
    sampler=dict(type='ResumableSampler', shuffle=True),
)
# the real pictures that generated ones are compared with
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(dataset, data_prefix='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
