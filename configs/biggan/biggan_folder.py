# The teacher for your own pictures: BigGAN.
_base_ = ['../_base_/models/folder.py', '../_base_/schedules/folder.py']

work_dir = f'work_dirs/biggan_folder_{_base_.size}'
model = dict(generator=_base_.biggan_generator)
val_evaluator = dict(
    metrics=[
        dict(
            type='DomainMetric',
            fake_nums=1000,
            classifier=dict(
                type='DomainClassifier', num_classes=_base_.num_classes
            ),
            checkpoint=f'work_dirs/classifier_folder_{_base_.size}/iter_400.pth',
        )
    ]
)
test_evaluator = val_evaluator
