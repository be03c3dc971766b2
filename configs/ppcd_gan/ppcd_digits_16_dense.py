# The dense student: the same distillation, nothing pruned.
_base_ = [
    '../_base_/models/digits_16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/digits_16.py',
    '../_base_/methods/ppcd.py',
]

model = dict(
    generator=_base_.sagan_generator,
    teacher=dict(
        type='GeneratorTeacher',
        generator=_base_.biggan_generator,
        checkpoint='checkpoints/biggan_digits_16.pth',
    ),
    distillation_loss=_base_.ppcd.distillation_loss,
)
