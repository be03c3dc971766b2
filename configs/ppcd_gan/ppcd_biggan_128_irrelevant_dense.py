# Table A, the control without L_PP.
_base_ = 'ppcd_biggan_128_dense.py'

model = dict(class_aware=False)
