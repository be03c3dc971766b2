# Table A, the control without L_PP.
_base_ = 'ppcd_cifar10_16_dense.py'

model = dict(class_aware=False)
