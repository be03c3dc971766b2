from .complexity import complexity
from .exporter import (Export, ExportMismatch, build_student, compare,
                       export_student, plain_config, save_export)
from .formats import FORMATS, FormatMismatch
from .rounding import round_widths
from .spectral_norm import fold_spectral_norm

__all__ = [
    'FORMATS', 'Export', 'ExportMismatch', 'FormatMismatch', 'build_student',
    'compare', 'complexity', 'export_student', 'fold_spectral_norm',
    'plain_config', 'round_widths', 'save_export'
]
