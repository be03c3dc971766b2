# Baseline SA-GAN: the dense student, trained as it is, without a teacher.
_base_ = [
    '../_base_/models/imagenet_128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/imagenet_128.py',
]

model = dict(generator=_base_.sagan_generator)
