# The dense student: class-aware distillation, nothing pruned.
_base_ = [
    '../_base_/models/cifar10_16.py',
    '../_base_/datasets/cifar10_16.py',
    '../_base_/schedules/cifar10_16.py',
    '../_base_/methods/ppcd.py',
]

model = dict(
    generator=_base_.sagan_generator,
    teacher=dict(
        type='GeneratorTeacher',
        generator=_base_.biggan_generator,
        checkpoint='checkpoints/biggan_cifar10_16.pth',
    ),
    distillation_loss=_base_.ppcd.distillation_loss,
)
