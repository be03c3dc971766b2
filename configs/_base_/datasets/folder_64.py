# Your own pictures: one folder per class in the folder that the environment
# variable PICTURES names; CLASSES says how many there are.
data_root = '{{$PICTURES:data/pictures}}'
num_classes = int('{{$CLASSES:2}}')

dataset = dict(
    type='BasicConditionalDataset',
    data_root=data_root,
    pipeline=[
        dict(type='LoadImageFromFile', key='gt'),
        dict(type='CenterCropLongEdge', keys='gt'),
        dict(type='Resize', keys='gt', scale=(64, 64), backend='pillow'),
        dict(type='PackInputs', keys='gt')
    ])

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='ResumableSampler', shuffle=True))
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
