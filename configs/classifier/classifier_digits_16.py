# The judge of the digits: a small classifier of the real images.
_base_ = [
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/classifier.py',
]

model = dict(
    type='DomainClassifier',
    num_classes=10,
    data_preprocessor=dict(type='DataPreprocessor'),
)

train_dataloader = dict(dataset=dict(split='train'))
val_dataloader = dict(dataset=dict(split='test'))
test_dataloader = val_dataloader
