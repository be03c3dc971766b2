from .figures import (class_grids, confusion_heatmap, curves, read_scalars)
from .html_report import HtmlReport

__all__ = [
    'HtmlReport', 'class_grids', 'confusion_heatmap', 'curves', 'read_scalars'
]
