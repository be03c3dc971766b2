# Baseline SN-GAN: SA-GAN without self-attention.
_base_ = '../sagan/sagan_cifar10_16.py'

model = dict(generator=dict(attention_after_nth_block=-1))
