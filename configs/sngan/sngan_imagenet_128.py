# Baseline SN-GAN: SA-GAN without self-attention.
_base_ = '../sagan/sagan_imagenet_128.py'

model = dict(
    generator=dict(attention_after_nth_block=-1),
    discriminator=dict(attention_after_nth_block=-1),
)
