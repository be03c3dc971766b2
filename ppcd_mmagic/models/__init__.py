from ppcd_mmagic.compat import flatten_labels, mend_initialization
from .augmented_discriminator import AugmentedDiscriminator
from .chunked_attention import ChunkedSelfAttentionBlock, chunk_attention
from .domain_classifier import DomainClassifier
from .grid_sample import sample_twice_differentiable
from .losses import (
    AttentionDistillationLoss,
    DiscriminatorFeatureLoss,
    MaskL1Loss,
    PixelDistillationLoss,
)
from .memory_layout import LayoutFollower, fast_layout
from .ppcd_gan import PPCDGAN
from .ppres_blocks import PPResBigGANGenResBlock, PPResSNGANGenResBlock
from .ppres_generators import (
    PPResBigGANGenerator,
    PPResSAGANGenerator,
    masked_generator,
)
from .pruned import pruned_generator
from .teacher import GeneratorTeacher
from .upsampling_conv import UpsamplingConv2d, merge_upsampling, merged_kernel

flatten_labels()
mend_initialization()

__all__ = [
    'AttentionDistillationLoss',
    'AugmentedDiscriminator',
    'ChunkedSelfAttentionBlock',
    'DiscriminatorFeatureLoss',
    'DomainClassifier',
    'GeneratorTeacher',
    'LayoutFollower',
    'MaskL1Loss',
    'PPCDGAN',
    'PPResBigGANGenResBlock',
    'PPResBigGANGenerator',
    'PPResSAGANGenerator',
    'PPResSNGANGenResBlock',
    'PixelDistillationLoss',
    'UpsamplingConv2d',
    'chunk_attention',
    'fast_layout',
    'masked_generator',
    'merge_upsampling',
    'merged_kernel',
    'pruned_generator',
    'sample_twice_differentiable',
]
