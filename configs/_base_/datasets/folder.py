# Your own pictures: one folder per class in the folder that the environment
# variable PICTURES names; CLASSES says how many there are, SIZE how many pixels
# wide they are to be: 32, 64 or 128.
# (An import statement would make this a config of MMEngine's other kind; its
# own {{$PICTURES}} is source code, which a path with an apostrophe breaks.)
data_root = __import__('os').environ.get('PICTURES', 'data/pictures')
num_classes = int(__import__('os').environ.get('CLASSES', 2))
size = int(__import__('os').environ.get('SIZE', 64))
if size not in (32, 64, 128):
    raise ValueError(f'SIZE={size} must be 32, 64 or 128')

dataset = dict(
    type='PictureFolder',
    data_root=data_root,
    pipeline=[
        dict(type='LoadImageFromFile', key='gt'),
        dict(type='CenterCropLongEdge', keys='gt'),
        dict(type='Resize', keys='gt', scale=(size, size), backend='pillow'),
        dict(type='PackInputs', keys='gt'),
    ],
)

train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='ResumableSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
