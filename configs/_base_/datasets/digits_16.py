# scikit-learn's handwritten digits: 1,797 images, 10 classes, nothing to fetch
dataset = dict(
    type='DigitsDataset', size=16, pipeline=[dict(type='PackInputs', keys='gt')]
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dataset,
    sampler=dict(type='ResumableSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
