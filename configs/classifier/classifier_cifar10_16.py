# The judge of CIFAR-10 at 16 px: a classifier of the real pictures, which are
# moved by up to two pixels and mirrored while it trains.
_base_ = [
    '../_base_/datasets/cifar10_16.py',
    '../_base_/schedules/classifier.py',
]

model = dict(
    type='DomainClassifier',
    num_classes=10,
    base_channels=48,
    feature_dim=128,
    depth=2,
    data_preprocessor=dict(type='DataPreprocessor'),
)

train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        pipeline=[
            *_base_.load,
            # two pixels of margin on each side
            dict(
                type='Crop',
                keys=['gt'],
                crop_size=(20, 20),
                random_crop=False,
                is_pad_zeros=True,
            ),
            dict(type='Crop', keys=['gt'], crop_size=(16, 16)),
            dict(type='Flip', keys='gt'),
            dict(type='PackInputs', keys='gt'),
        ]
    ),
)

max_iters = 10000
train_cfg = dict(max_iters=max_iters, val_interval=2000)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = dict(T_max=max_iters)
default_hooks = dict(checkpoint=dict(interval=500))
