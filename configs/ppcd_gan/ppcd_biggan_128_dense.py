# The dense student (SAGAN) with class-aware distillation, nothing pruned:
# Table A, without L_PP.
_base_ = [
    '../_base_/models/imagenet_128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/imagenet_128.py',
    '../_base_/methods/ppcd.py',
]

model = dict(
    generator=_base_.sagan_generator,
    teacher=dict(
        type='GeneratorTeacher',
        generator=_base_.biggan_generator,
        checkpoint='checkpoints/biggan_imagenet_128.pth',
    ),
    distillation_loss=_base_.ppcd.distillation_loss,
)
