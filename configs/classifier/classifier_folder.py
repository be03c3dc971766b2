# The judge of your own pictures: a small classifier of them.
_base_ = ['../_base_/datasets/folder.py', '../_base_/schedules/classifier.py']

model = dict(
    type='DomainClassifier',
    num_classes=_base_.num_classes,
    data_preprocessor=dict(type='DataPreprocessor'),
)
