from .attention_distillation_loss import (
    AttentionDistillationLoss,
    attention_map,
)
from .mask_l1_loss import MaskL1Loss

__all__ = ['AttentionDistillationLoss', 'MaskL1Loss', 'attention_map']
