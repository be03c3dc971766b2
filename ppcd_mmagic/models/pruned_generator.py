from typing import Dict, Sequence

import torch.nn as nn

from ppcd_mmagic.layers import resize_layers
from ppcd_mmagic.registry import MODELS


@MODELS.register_module()
def PrunedGenerator(generator: dict, layer_sizes: Dict[str, Sequence[int]],
                    **defaults) -> nn.Module:
    """Build a generator of MMagic with layers narrower than its config says.

    What ``tools/export.py`` writes. The result is an instance of MMagic's own
    generator; nothing of pruning is left in it but the widths.

    Args:
        generator (dict): Config of the dense generator.
        layer_sizes (dict): Sizes by layer name, (outputs, inputs) of
            convolutions and linear layers, (outputs, ) of embeddings and
            norms. Layers not named keep theirs.
        **defaults: Passed to the generator unless its config sets them.

    Raises:
        ValueError: If a layer does not exist or is smaller than its size.
    """
    built = MODELS.build(generator, default_args=defaults)
    resize_layers(built, layer_sizes)
    return built
