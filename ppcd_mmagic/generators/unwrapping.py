from typing import List

import torch.nn as nn
from mmengine.model import is_model_wrapper


def generators_of(model: nn.Module) -> List[nn.Module]:
    """The generator of a GAN and, if there is one, its EMA copy, out of the
    wrappers of distributed training."""
    model = model.module if is_model_wrapper(model) else model
    generator = model.generator
    if is_model_wrapper(generator):
        generator = generator.module
    ema = getattr(model, 'generator_ema', None)
    return [generator] if ema is None else [generator, ema.module]
