"""A folder of an export is there whole, or as it was."""

import hashlib
import json
import os
import stat

import pytest
from mmengine.config import Config

from ppcd_mmagic import PPCDError
from ppcd_mmagic.export import FORMATS, Export, save_export

EXPORT = Export(
    generators={},
    config=Config(dict(model=dict(type='Any'))),
    summary=dict(before=dict(parameters=8), images=dict(order='RGB')),
)


@pytest.fixture(autouse=True)
def formats(monkeypatch):
    """One that writes a few bytes, and one that fails half way."""

    def few(generators, folder, images, precision):
        with open(os.path.join(folder, 'generator.few'), 'wb') as file:
            file.write(b'\r\nfew bytes of ' + images['order'].encode())
        few.folders.append(folder)
        return {}

    def fails(generators, folder, images, precision):
        few(generators, folder, images, precision)
        raise fails.error

    few.folders, fails.error = [], OSError(28, 'No space left on device')
    mmagic = FORMATS['mmagic']
    monkeypatch.setitem(FORMATS, 'few', mmagic._replace(save=few))
    monkeypatch.setitem(FORMATS, 'fails', mmagic._replace(save=fails))
    return dict(few=few, fails=fails)


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'runs' / 'export'


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_summary_is_that_of_the_export_with_the_sums_of_its_files(out):
    save_export(EXPORT, str(out), ['few'])
    text = (out / 'summary.json').read_text()
    assert len(text.splitlines()) > 5, 'for people, too'
    summary = json.loads(text)
    sums = summary.pop('sha256')
    assert summary == EXPORT.summary
    assert (out / 'generator.few').read_bytes() == b'\r\nfew bytes of RGB'
    assert sums == {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()
        for name in ('config.py', 'generator.few')
    }
    assert Config.fromfile(out / 'config.py').model == dict(type='Any')


def test_nothing_else_is_left_beside_it(out):
    for _ in range(2):
        save_export(EXPORT, str(out), ['few'])
        assert files(out.parent) == ['export']
        assert files(out) == ['config.py', 'generator.few', 'summary.json']


def test_others_may_read_it_whatever_the_umask(out):
    before = os.umask(0o077)
    try:
        save_export(EXPORT, str(out), ['few'])
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    for path in out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path.name


def test_it_is_written_hidden_on_the_disk_where_it_will_be(out, formats):
    """Another disk could be full, and no renaming leads to this one."""
    save_export(EXPORT, str(out), ['few'])
    (folder,) = formats['few'].folders
    assert os.path.dirname(folder) == str(out.parent)
    assert os.path.basename(folder).startswith('.export-')


def test_it_may_be_named_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_export(EXPORT, 'export', ['few'])
    assert files(tmp_path) == ['export']


def test_an_older_export_goes_as_a_whole(out):
    save_export(EXPORT, str(out), ['few'])
    newer = dict(EXPORT.summary, newer=1)
    save_export(EXPORT._replace(summary=newer), str(out), [])
    assert files(out) == ['config.py', 'summary.json']
    assert json.loads((out / 'summary.json').read_text())['newer'] == 1


@pytest.mark.parametrize(
    'error, raised',
    [
        (OSError(28, 'No space left on device'), PPCDError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_half_way_leaves_what_was_there(out, formats, error, raised):
    save_export(EXPORT, str(out), ['few'])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    formats['fails'].error = error
    with pytest.raises(
        raised,
        match='No space left.*untouched' if raised is PPCDError else None,
    ):
        save_export(
            EXPORT._replace(generators=dict(a=None)), str(out), ['fails']
        )
    assert files(out.parent) == ['export']
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_fails_at_first_leaves_nothing(out):
    with pytest.raises(PPCDError, match='No space left'):
        save_export(EXPORT, str(out), ['fails'])
    assert files(out.parent) == []


def test_a_folder_of_something_else_is_not_touched(out):
    out.mkdir(parents=True)
    (out / 'notes.txt').write_text('mine')
    with pytest.raises(PPCDError, match='other files than those of an exp'):
        save_export(EXPORT, str(out), ['few'])
    assert files(out.parent) == ['export'] and files(out) == ['notes.txt']


def test_an_empty_folder_is_taken(out):
    out.mkdir(parents=True)
    save_export(EXPORT, str(out), [])
    assert files(out) == ['config.py', 'summary.json']


def test_a_folder_that_is_read_only_keeps_its_export(out, monkeypatch):
    """An administrator may write anywhere, so the system's answer is given
    here."""
    save_export(EXPORT, str(out), ['few'])
    before = files(out)
    monkeypatch.setattr(os, 'access', lambda path, mode: path != str(out))
    with pytest.raises(PPCDError, match='export is read-only'):
        save_export(EXPORT, str(out), [])
    assert files(out) == before


@pytest.mark.parametrize(
    'name, said', [('', 'is a file'), ('below', 'cannot be written')]
)
def test_a_file_is_no_folder(tmp_path, name, said):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(PPCDError, match=said):
        save_export(EXPORT, str(tmp_path / 'file' / name), [])
    assert (tmp_path / 'file').read_text() == 'mine'
    assert files(tmp_path) == ['file']
