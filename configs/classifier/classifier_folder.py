# The judge of your own pictures: a small classifier of them.
_base_ = ['../_base_/datasets/folder.py', '../_base_/schedules/classifier.py']

# sizes are kept apart: a judge would take pictures of another one as well
work_dir = f'work_dirs/classifier_folder_{_base_.size}'
model = dict(
    type='DomainClassifier',
    num_classes=_base_.num_classes,
    data_preprocessor=dict(type='DataPreprocessor'),
)
