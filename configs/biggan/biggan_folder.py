# The teacher for your own pictures: BigGAN.
_base_ = ['../_base_/models/folder.py', '../_base_/schedules/folder.py']

model = dict(generator=_base_.biggan_generator)
val_evaluator = dict(
    metrics=[
        dict(
            type='DomainMetric',
            fake_nums=1000,
            classifier=dict(
                type='DomainClassifier', num_classes=_base_.num_classes
            ),
            checkpoint='work_dirs/classifier_folder/iter_400.pth',
        )
    ]
)
test_evaluator = val_evaluator
