from .complexity import complexity
from .exporter import (Export, ExportMismatch, build_pruned, build_student,
                       compare, export_student, plain_config, pruned_config,
                       save_export)
from .formats import FORMATS, FormatMismatch
from .rounding import round_widths
from .spectral_norm import fold_spectral_norm

__all__ = [
    'FORMATS', 'Export', 'ExportMismatch', 'FormatMismatch', 'build_pruned',
    'build_student', 'compare', 'complexity', 'export_student',
    'fold_spectral_norm', 'plain_config', 'pruned_config', 'round_widths',
    'save_export'
]
