# Baseline SA-GAN: the dense student, trained as it is, without a teacher.
_base_ = [
    '../_base_/models/cifar10_32.py',
    '../_base_/datasets/cifar10_32.py',
    '../_base_/schedules/cifar10_32.py',
]

model = dict(generator=_base_.sagan_generator)
