from .augmented_discriminator import AugmentedDiscriminator
from .biggan_teacher import BigGANTeacher
from .chunked_attention import ChunkedSelfAttentionBlock, chunk_attention
from .domain_classifier import DomainClassifier
from .feature_tap import FeatureTap
from .grid_sample import sample_twice_differentiable
from .image_distillation_gan import ImageDistillationGAN
from .losses import AttentionDistillationLoss, MaskL1Loss
from .ppcd_gan import PPCDGAN
from .ppres_blocks import PPResBigGANGenResBlock, PPResSNGANGenResBlock
from .ppres_generators import (MaskedGenerator, PPResBigGANGenerator,
                               PPResSAGANGenerator)
from .pruned_generator import PrunedGenerator

__all__ = [
    'AttentionDistillationLoss', 'AugmentedDiscriminator', 'BigGANTeacher',
    'ChunkedSelfAttentionBlock', 'DomainClassifier', 'FeatureTap',
    'ImageDistillationGAN', 'MaskL1Loss', 'MaskedGenerator', 'PPCDGAN',
    'PPResBigGANGenResBlock', 'PPResBigGANGenerator', 'PPResSAGANGenerator',
    'PPResSNGANGenResBlock', 'PrunedGenerator', 'chunk_attention',
    'sample_twice_differentiable'
]
