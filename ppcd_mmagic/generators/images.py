"""What the images of a generator are, as its model's config tells."""

from typing import Optional

import torch.nn as nn
from mmengine.config import Config

from ppcd_mmagic.registry import MODELS


def build_preprocessor(config: Config) -> nn.Module:
    """The data preprocessor of a model's config, MMagic's where it names
    none."""
    return MODELS.build(
        config.model.get('data_preprocessor') or dict(type='DataPreprocessor')
    )


def channel_order(preprocessor: nn.Module) -> Optional[str]:
    """'BGR' or 'RGB'; None for a preprocessor that does not know.

    MMagic's keeps the order of the data where it is told none, and reads
    pictures as BGR.
    """
    if not hasattr(preprocessor, 'output_channel_order'):
        return None
    return str(preprocessor.output_channel_order or 'BGR')
