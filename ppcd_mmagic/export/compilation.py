"""A graph as machine code, by AOTInductor and a C++ compiler."""

import os
import shutil
import sys
from typing import Dict

import torch

from ppcd_mmagic.errors import PPCDError


def _compiler() -> str:
    """What torch calls, as ``_inductor.config.cpp.cxx`` has it."""
    usual = dict(darwin='clang++', win32='cl').get(sys.platform, 'g++')
    return os.environ.get('CXX') or usual


def require_compiler(name: str) -> None:
    """Refuse a format where there is no C++ compiler.

    Args:
        name (str): Of the format, for the message.

    Raises:
        PPCDError: If there is none.
    """
    command = _compiler()
    if shutil.which(command.split()[0]) is None:
        raise PPCDError(
            f'The format {name} needs a C++ compiler, and there is no '
            f'"{command}": install it, or name yours in CXX.'
        )


def compile_package(
    program: torch.export.ExportedProgram, path: str, metadata: Dict[str, str]
) -> None:
    """Write a package of AOTInductor.

    Args:
        program (ExportedProgram): What to compile, for the CPU it runs on.
        path (str): The file, which ends in ``.pt2``.
        metadata (dict): What ``get_metadata()`` of the package tells.

    Raises:
        PPCDError: If the C++ compiler fails.
    """
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    options = {
        'aot_inductor.metadata': metadata,
        # as many threads as there are where it runs, not here
        'cpp.dynamic_threads': True,
    }
    try:
        torch._inductor.aoti_compile_and_package(
            program, package_path=path, inductor_configs=options
        )
    except RuntimeError as error:
        cause = getattr(error, 'inner_exception', error)
        if not isinstance(cause, (CppCompileError, InvalidCxxCompiler)):
            raise
        lines = getattr(cause, 'output', str(cause)).strip().splitlines()
        what = next((line for line in lines if 'error' in line), lines[-1])
        raise PPCDError(
            f'The C++ compiler "{_compiler()}" failed ({what.strip()}): '
            'mend it, name another in CXX, or choose another format.'
        ) from error
