"""From a trained student to files that others can run."""

from ppcd_mmagic.channels import ExportMismatch
from .description import describe_images
from .exporter import Export, build_student, compare, export_student
from .folding import fold_norms
from .formats import FORMATS, PRECISIONS, check_formats, require_torch
from .graphs import call_by_name, file_inputs, program_of
from .merging import merge_upsampling_nodes
from .precision import FormatMismatch, Precision, cost_of, judge_of
from .writing import save_export

__all__ = [
    'FORMATS',
    'Export',
    'ExportMismatch',
    'FormatMismatch',
    'PRECISIONS',
    'Precision',
    'build_student',
    'call_by_name',
    'check_formats',
    'compare',
    'cost_of',
    'describe_images',
    'export_student',
    'file_inputs',
    'fold_norms',
    'judge_of',
    'merge_upsampling_nodes',
    'program_of',
    'require_torch',
    'save_export',
]
