# Baseline GAN Compression (Li et al., 2020): distillation of features into a
# once-for-all network, then a search over its widths within a third of the
# multiply-adds.
_base_ = '../ppcd_gan/ppcd_cifar10_32_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator', residual_masks='shared')
)
default_hooks = dict(once_for_all=dict(type='OnceForAllHook', budget=0.33))
