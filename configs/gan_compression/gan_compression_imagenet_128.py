# Baseline GAN Compression (Li et al., 2020): distillation of features into a
# once-for-all network, then a search over its widths within a fifth of the
# multiply-adds (what PPCD-GAN has left at alpha 0.6 with shared masks).
_base_ = '../ppcd_gan/ppcd_biggan_128_dense.py'

model = dict(
    generator=dict(type='PPResSAGANGenerator', residual_masks='shared')
)
default_hooks = dict(
    once_for_all=dict(
        type='OnceForAllHook', budget=0.21, metric='FID-Full-50k/fid'
    )
)
