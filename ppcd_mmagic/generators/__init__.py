"""What the package asks of a generator."""

from .features import FeatureTap, common_features, find_layers
from .images import build_preprocessor, channel_order
from .inputs import (
    class_inputs,
    draw_noise,
    example_inputs,
    random_inputs,
    takes_noise,
)
from .statistics import batch_norms, settle_statistics
from .unwrapping import TrainedGenerator, generators_of

__all__ = [
    'FeatureTap',
    'TrainedGenerator',
    'batch_norms',
    'build_preprocessor',
    'channel_order',
    'class_inputs',
    'common_features',
    'draw_noise',
    'example_inputs',
    'find_layers',
    'generators_of',
    'random_inputs',
    'settle_statistics',
    'takes_noise',
]
