from .augmented_discriminator import AugmentedDiscriminator
from .biggan_teacher import BigGANTeacher
from .chunked_attention import ChunkedSelfAttentionBlock, chunk_attention
from .domain_classifier import DomainClassifier
from .grid_sample import sample_twice_differentiable
from .image_distillation_gan import ImageDistillationGAN
from .losses import AttentionDistillationLoss, MaskL1Loss
from .ppcd_gan import PPCDGAN
from .ppres_blocks import PPResBigGANGenResBlock, PPResSNGANGenResBlock
from .ppres_generators import (PPResBigGANGenerator, PPResSAGANGenerator,
                               masked_generator)
from .pruned_generator import pruned_generator

__all__ = [
    'AttentionDistillationLoss', 'AugmentedDiscriminator', 'BigGANTeacher',
    'ChunkedSelfAttentionBlock', 'DomainClassifier', 'ImageDistillationGAN',
    'MaskL1Loss', 'PPCDGAN', 'PPResBigGANGenResBlock', 'PPResBigGANGenerator',
    'PPResSAGANGenerator', 'PPResSNGANGenResBlock', 'chunk_attention',
    'masked_generator', 'pruned_generator', 'sample_twice_differentiable'
]
