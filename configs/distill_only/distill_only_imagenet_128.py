# Baseline "Distill only" (Aguinaldo et al., 2019): a smaller generator copies
# the teacher's pixels; nothing adversarial reaches it.
_base_ = '../tinygan/tinygan_imagenet_128.py'

model = dict(
    distillation_loss=_base_.ppcd.copying[:1],
    loss_config=dict(
        gan_loss=dict(type='GANLoss', gan_type='hinge', loss_weight=0.0)
    ),
)
