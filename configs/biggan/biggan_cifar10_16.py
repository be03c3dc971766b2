# The teacher of CIFAR-10 at 16 px: BigGAN with two blocks.
_base_ = [
    '../_base_/models/cifar10_16.py',
    '../_base_/datasets/cifar10_16.py',
    '../_base_/schedules/cifar10_16.py',
]

model = dict(generator=_base_.biggan_generator, ema_config=dict(momentum=0.001))
# slower than the students, which have a fifth of the time
optim_wrapper = dict(
    generator=dict(optimizer=dict(lr=2e-4)),
    discriminator=dict(optimizer=dict(lr=4e-4)),
)
train_cfg = dict(max_iters=8000, val_interval=2000)
param_scheduler = dict(begin=4000, end=8000)
# beside the checkpoint to resume from, one with nothing but weights
default_hooks = dict(checkpoint=dict(published_keys=['state_dict']))
