# Table A, the control: the teacher draws another class than the student.
_base_ = 'ppcd_cifar10_16_alpha05.py'

model = dict(class_aware=False)
