# A folder of ImageNet's layout: data/imagenet/train/<class>/<picture>.
# As in BigGAN: the centre of the picture, no flip.
pipeline = [
    dict(type='LoadImageFromFile', key='gt'),
    dict(type='CenterCropLongEdge', keys='gt'),
    dict(type='Resize', keys='gt', scale=(128, 128), backend='pillow'),
    dict(type='PackInputs', keys='gt'),
]
dataset = dict(
    type='PictureFolder',
    data_root='data/imagenet',
    data_prefix='train',
    pipeline=pipeline,
)

train_dataloader = dict(
    batch_size=32,  # of each of 8 GPUs
    num_workers=4,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='ResumableSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
