"""What is built for users: wheel, source distribution, metadata."""

import email
import os.path as osp
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import ppcd_mmagic

BUILD = (
    'import sys; out = sys.argv[1]; '
    'from setuptools import build_meta as build; '
    'build.build_sdist(out); build.build_wheel(out)'
)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Folder with a wheel and a source distribution of this tree."""
    folder = tmp_path_factory.mktemp('package')
    tree, out = folder / 'tree', folder / 'out'
    out.mkdir()
    shutil.copytree(
        ROOT,
        tree,
        ignore=shutil.ignore_patterns(
            'work_dirs', 'data', '.git', '.mim', '*.egg-info', '__pycache__'
        ),
    )
    run = subprocess.run(
        [sys.executable, '-c', BUILD, str(out)],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture(scope='module')
def wheel(built):
    with zipfile.ZipFile(next(built.glob('*.whl'))) as archive:
        yield archive


@pytest.fixture(scope='module')
def sources(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as archive:
        return {name.partition('/')[2] for name in archive.getnames()}


def relative_files(*patterns):
    return {
        path.relative_to(ROOT).as_posix()
        for pattern in patterns
        for path in Path(ROOT).glob(pattern)
    }


def test_wheel_carries_every_config_and_tool_where_mim_looks(wheel):
    wanted = relative_files(
        *(f'configs/**/*.{end}' for end in ('py', 'yml', 'md')),
        'tools/*.py',
        'model-index.yml',
    )
    assert {f'ppcd_mmagic/.mim/{name}' for name in wanted} <= set(
        wheel.namelist()
    )


def test_wheel_carries_every_module_and_the_type_marker(wheel):
    wanted = relative_files('ppcd_mmagic/**/*.py') | {'ppcd_mmagic/py.typed'}
    assert wanted <= set(wheel.namelist())


def test_wheel_installs_nothing_beside_the_package(wheel):
    version = ppcd_mmagic.__version__
    assert {name.split('/')[0] for name in wheel.namelist()} == {
        'ppcd_mmagic',
        f'ppcd_mmagic-{version}.dist-info',
    }


def test_wheel_metadata_has_the_one_version_and_the_license(wheel):
    info = f'ppcd_mmagic-{ppcd_mmagic.__version__}.dist-info'
    metadata = email.message_from_bytes(wheel.read(f'{info}/METADATA'))
    assert metadata['Version'] == ppcd_mmagic.__version__
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert f'{info}/licenses/LICENSE' in wheel.namelist()


def test_sources_carry_what_their_tests_read(sources):
    wanted = relative_files(
        'tests/*.py',
        'tools/*.py',
        'configs/**/*.py',
        'configs/**/*.md',
        'benchmarks/*.py',
        'checkpoints/*',
        'docs/*.md',
    )
    wanted |= {'pytest.ini', 'README.md', 'Makefile', 'requirements/lock.txt'}
    assert wanted <= sources


def listed_models(key):
    index = yaml.safe_load(Path(ROOT, 'model-index.yml').read_text())
    return [
        model[key]
        for name in index['Import']
        for model in yaml.safe_load(Path(ROOT, name).read_text())['Models']
    ]


def test_every_config_is_listed_once_for_mim():
    configs = {
        name
        for name in relative_files('configs/**/*.py')
        if '_base_' not in name
    }
    assert sorted(listed_models('Config')) == sorted(configs)
    names = listed_models('Name')
    assert len(set(names)) == len(names)


def test_citation_names_the_paper():
    citation = yaml.safe_load(Path(ROOT, 'CITATION.cff').read_text())
    paper = citation['preferred-citation']
    assert paper['title'].startswith('PPCD-GAN: Progressive Pruning')
    assert paper['url'].endswith('2203.08456')
    assert osp.isfile(osp.join(ROOT, 'LICENSE'))
