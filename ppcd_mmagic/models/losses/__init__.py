from .attention_distillation_loss import (
    AttentionDistillationLoss,
    attention_map,
)
from .building import build_distillation_losses, compared
from .image_distillation_losses import (
    DiscriminatorFeatureLoss,
    PixelDistillationLoss,
)
from .mask_l1_loss import MaskL1Loss

__all__ = [
    'AttentionDistillationLoss',
    'DiscriminatorFeatureLoss',
    'MaskL1Loss',
    'PixelDistillationLoss',
    'attention_map',
    'build_distillation_losses',
    'compared',
]
