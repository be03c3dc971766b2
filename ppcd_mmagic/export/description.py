"""What the images of a generator are, for those who read its files."""

from typing import Any, Dict

from mmengine.config import Config

from ppcd_mmagic.datasets import class_names
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import build_preprocessor, channel_order


def describe_images(config: Config) -> Dict[str, Any]:
    """As the model's own config tells.

    Args:
        config (Config): Of a training.

    Returns:
        dict: ``value_range``, the values of black and of full white, such as
        [-1.0, 1.0], and ``channel_order``, 'BGR' or 'RGB', as the model's data
        preprocessor has them; ``class_names`` by index, where the config's
        data set knows them. What is not known is left out.

    Example:
        >>> config = Config.fromfile('student.py')
        >>> description = describe_images(config)
        >>> description['value_range'], description['channel_order']
        ([-1.0, 1.0], 'BGR')
    """
    preprocessor = build_preprocessor(config)
    found: Dict[str, Any] = {}
    order = channel_order(preprocessor)
    if order is not None:
        found['channel_order'] = order
    mean, std = (getattr(preprocessor, key, None) for key in ('mean', 'std'))
    if mean is not None and std is not None:
        ends = [((end - mean) / std).flatten() for end in (0, 255)]
        if all((end == end[0]).all() for end in ends):
            found['value_range'] = [round(float(end[0]), 6) for end in ends]
    try:
        found['class_names'] = class_names(config)
    except PPCDError:
        pass  # most models have no classes
    return found
