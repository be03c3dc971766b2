# Baseline SA-GAN: the dense student, trained as it is, without a teacher.
_base_ = [
    '../_base_/models/digits_16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/digits_16.py',
]

model = dict(generator=_base_.sagan_generator)
