from .complexity import complexity
from .exporter import (Export, ExportMismatch, build_student, compare,
                       export_student, save_export)
from .formats import FORMATS, FormatMismatch
from .rounding import round_widths

__all__ = [
    'FORMATS', 'Export', 'ExportMismatch', 'FormatMismatch', 'build_student',
    'compare', 'complexity', 'export_student', 'round_widths', 'save_export'
]
