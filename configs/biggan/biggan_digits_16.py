# The teacher of the digits demo: BigGAN, base 16.
_base_ = [
    '../_base_/models/digits_16.py',
    '../_base_/datasets/digits_16.py',
    '../_base_/schedules/digits_16.py',
]

model = dict(generator=_base_.biggan_generator)
train_cfg = dict(max_iters=1600, val_interval=400)
param_scheduler = dict(begin=800, end=1600)
# beside the checkpoint to resume from, one with nothing but weights
default_hooks = dict(checkpoint=dict(published_keys=['state_dict']))
