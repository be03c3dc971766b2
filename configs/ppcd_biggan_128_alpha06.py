# PPCD-GAN on ImageNet 128 x 128 under a BigGAN teacher, alpha 0.6.
_base_ = 'ppcd_gan/ppcd_biggan_128_alpha06.py'
