from .figures import (
    class_grids,
    confusion_heatmaps,
    curves,
    picture_table,
    read_scalars,
    sparsity_panels,
    speed_bars,
)
from .html_report import HtmlReport
from .interpolation import interpolate_classes, interpolate_noises, slerp

__all__ = [
    'HtmlReport',
    'class_grids',
    'confusion_heatmaps',
    'curves',
    'interpolate_classes',
    'interpolate_noises',
    'picture_table',
    'read_scalars',
    'slerp',
    'sparsity_panels',
    'speed_bars',
]
