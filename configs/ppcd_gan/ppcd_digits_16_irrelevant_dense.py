# Table A, the control without L_PP.
_base_ = 'ppcd_digits_16_dense.py'

model = dict(class_aware=False)
