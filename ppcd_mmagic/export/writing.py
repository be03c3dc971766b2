"""An export on disk: a folder that appears whole or not at all."""

import itertools
import json
import os
import os.path as osp
import shutil
import tempfile
from typing import Sequence

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import SUMMARY, make_folder, sha256_of
from .exporter import Export
from .formats import FORMATS, check_formats
from .precision import Precision


def save_export(
    export: Export,
    out_dir: str,
    formats: Sequence[str] = ('mmagic',),
    precisions: Sequence[Precision] = (Precision(),),
) -> None:
    """Write ``config.py``, ``summary.json`` and the generator.

    An export that is there already is replaced as a whole, so that no file of
    it stays beside those of another model.

    Args:
        export (Export): What to write.
        out_dir (str): Where; made if it does not exist.
        formats (Sequence[str]): Of ``FORMATS``.
        precisions (Sequence[Precision]): Each format is written in those that
            it has. Defaults to float32 alone. What the others cost is added
            to ``export.summary``, by file, as ``costs``.

    Raises:
        PPCDError: If the folder holds something else than an export, cannot
            be written, a written file computes something else, and see
            :func:`check_formats`.

    Example:
        >>> export = export_student(Config.fromfile('student.py'), 'iter_800.pth')
        >>> save_export(export, 'small', formats=['mmagic', 'safetensors'])
        >>> sorted(os.listdir('small'))
        ['config.py', 'generator.pth', 'generator.safetensors', 'summary.json']
    """
    check_formats(formats, [precision.name for precision in precisions])
    out_dir = osp.abspath(out_dir)
    _refuse_other_folders(out_dir)
    try:
        os.makedirs(osp.dirname(out_dir), exist_ok=True)
        written = tempfile.mkdtemp(
            prefix=f'.{osp.basename(out_dir)}-', dir=osp.dirname(out_dir)
        )
    except OSError as error:
        raise PPCDError(
            f'The export cannot be written to {out_dir}: '
            f'{error.strerror}. Name another folder.'
        ) from error
    try:
        _write(export, written, formats, precisions)
        _take_place(written, out_dir)
    except OSError as error:
        raise PPCDError(
            f'The export could not be written to {out_dir}: {error.strerror}. '
            'What was there before is untouched.'
        ) from error
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _refuse_other_folders(out_dir: str) -> None:
    if not osp.exists(out_dir):
        return
    if not osp.isdir(out_dir):
        raise PPCDError(f'{out_dir} is a file: name a folder for the export.')
    if os.listdir(out_dir) and not osp.isfile(osp.join(out_dir, SUMMARY)):
        raise PPCDError(
            f'{out_dir} holds other files than those of an export, which '
            'would be lost: name another folder.'
        )
    make_folder(out_dir)  # where it is read-only, its export is to stay


def _write(
    export: Export,
    folder: str,
    formats: Sequence[str],
    precisions: Sequence[Precision],
) -> None:
    os.chmod(folder, 0o755)
    export.config.dump(osp.join(folder, 'config.py'))
    images, costs = export.summary['images'], {}
    for name, precision in itertools.product(formats, precisions):
        if precision.name in FORMATS[name].precisions:
            costs.update(
                FORMATS[name].save(export.generators, folder, images, precision)
            )
    if costs:
        export.summary['costs'] = costs
    files = {
        name: sha256_of(osp.join(folder, name))
        for name in sorted(os.listdir(folder))
    }
    with open(osp.join(folder, SUMMARY), 'w') as file:
        json.dump(dict(export.summary, sha256=files), file, indent=2)
    for name in os.listdir(folder):
        os.chmod(osp.join(folder, name), 0o644)


def _take_place(written: str, out_dir: str) -> None:
    """Exchange folders; what was there goes only when the new one stands."""
    if not osp.isdir(out_dir):
        os.rename(written, out_dir)
        return
    old = f'{written}-old'
    os.rename(out_dir, old)
    os.rename(written, out_dir)
    shutil.rmtree(old, ignore_errors=True)
