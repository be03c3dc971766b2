from .figures import (class_grids, confusion_heatmaps, curves, picture_table,
                      read_scalars)
from .html_report import HtmlReport

__all__ = [
    'HtmlReport', 'class_grids', 'confusion_heatmaps', 'curves',
    'picture_table', 'read_scalars'
]
