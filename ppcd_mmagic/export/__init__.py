from .complexity import complexity
from .exporter import (Export, ExportMismatch, build_student, compare,
                       export_student, save_export)

__all__ = [
    'Export', 'ExportMismatch', 'build_student', 'compare', 'complexity',
    'export_student', 'save_export'
]
