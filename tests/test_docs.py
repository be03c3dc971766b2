"""What README and docs tell people to type."""

import contextlib
import doctest
import importlib
import inspect
import io
import os.path as osp
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ppcd_mmagic import registry
from ppcd_mmagic.engine import config_problems, hooks_of
from ppcd_mmagic.generators import example_inputs

PAGES = [
    'README.md',
    *sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in ('docs/*.md', 'configs/*/README.md')
        for path in Path(ROOT).glob(pattern)
    ),
]
STUDENT = 'configs/ppcd_gan/ppcd_digits_16_alpha06.py'


def blocks(page, language):
    text = Path(ROOT, page).read_text()
    return re.findall(rf'^```{language}\n(.*?)^```', text, re.S | re.M)


def commands():
    """(page, words) of every call of a Python program, in blocks and in
    sentences."""
    for page in PAGES:
        text = Path(ROOT, page).read_text()
        lines = [
            line
            for block in blocks(page, 'bash')
            for line in block.replace('\\\n', ' ').splitlines()
        ]
        outside = re.sub(r'^```.*?^```', '', text, flags=re.S | re.M)
        lines += [
            ' '.join(code.split())
            for code in re.findall(r'`(python [^`]+)`', outside)
        ]
        for line in lines:
            words = shlex.split(line, comments=True)
            script = next(
                (
                    i
                    for i, word in enumerate(words)
                    if re.match(r'(tools|benchmarks)/\w+\.py$', word)
                ),
                None,
            )
            if script is not None:
                yield page, words[script:]


def parse(monkeypatch, words):
    """Let the program read its command line, and nothing else."""
    folder, name = osp.split(words[0])
    monkeypatch.syspath_prepend(osp.join(ROOT, folder))
    monkeypatch.delitem(sys.modules, name[:-3], raising=False)
    program = importlib.import_module(name[:-3])
    monkeypatch.setattr(sys, 'argv', words)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            program.parse_args()
    except SystemExit:
        pytest.fail(errors.getvalue())
    finally:
        sys.modules.pop(name[:-3], None)


def label(case):
    return f'{case[0]}: {" ".join(case[1])}'[:90]


@pytest.mark.parametrize('case', list(commands()), ids=label)
def test_every_command_is_one_that_its_program_takes(case, repo, monkeypatch):
    _, words = case
    if words[0].startswith('benchmarks/'):  # they count the memory of tensors
        pytest.importorskip('torch.distributed._tools.mem_tracker')
    for word in words:
        if word.startswith(('configs/', 'checkpoints/')):
            assert osp.exists(word), f'{word} does not exist'
    parse(monkeypatch, words)


@pytest.mark.parametrize('page', PAGES)
def test_every_make_target_and_linked_file_exists(page, repo):
    text = Path(page).read_text()
    targets = set(re.findall(r'^([\w-]+):', Path('Makefile').read_text(), re.M))
    assert set(re.findall(r'(?:^|`)make ([a-z][\w-]*)', text, re.M)) <= targets
    for link in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        if '://' not in link:
            assert osp.exists(osp.join(osp.dirname(page), link)), link


def test_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(osp.join(ROOT, 'benchmarks'))
    fill_tables = importlib.import_module('fill_tables')
    for page, text in fill_tables.pages():
        assert page.read_text() == text, f'{page}: run make tables'


def test_a_table_is_filled_wherever_it_stands_and_older_runs_may_have_less(
    monkeypatch,
):
    monkeypatch.syspath_prepend(osp.join(ROOT, 'benchmarks'))
    tables, fill_tables = (
        importlib.import_module(name) for name in ('tables', 'fill_tables')
    )
    page = '<!-- a -->\nold\n<!-- end -->\n'
    assert tables.filled(2 * page, 'a', 'new') == 2 * page.replace('old', 'new')
    runs = [{'d/kid': 1.0, 'd/frechet': 2.0}, {'d/frechet': 4.0}]
    assert fill_tables.means(runs) == {'frechet': 3.0}


def test_every_config_is_in_its_metafile():
    index = yaml.safe_load(Path(ROOT, 'model-index.yml').read_text())
    for metafile in Path(ROOT, 'configs').glob('*/metafile.yml'):
        models = yaml.safe_load(metafile.read_text())['Models']
        assert all(Path(ROOT, model['Config']).exists() for model in models)
        assert {path.name for path in metafile.parent.glob('*.py')} <= {
            Path(model['Config']).name for model in models
        }
        named = metafile.relative_to(ROOT).as_posix()
        assert named in index['Import']


def python_blocks():
    return [(page, block) for page in PAGES for block in blocks(page, 'python')]


def test_parts_named_in_python_blocks_are_registered():
    known = {
        name
        for which in ('MODELS', 'HOOKS', 'DATASETS', 'METRICS')
        for name in getattr(registry, which).module_dict
    }
    named = {
        name
        for _, block in python_blocks()
        for name in re.findall(r"type='ppcd_mmagic\.(\w+)'", block)
    }
    assert named and named <= known


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    """A folder with ``export/`` in it, of an untrained student, whose config
    and checkpoint are there too."""
    from ppcd_mmagic.export import export_student, save_export

    folder = tmp_path_factory.mktemp('docs')
    config = Config.fromfile(osp.join(ROOT, STUDENT))
    config.dump(folder / 'student.py')
    config.model.teacher = None
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        generator = registry.MODELS.build(config.model).generator_ema.module
        torch.save(
            dict(state_dict=generator.state_dict()), folder / 'iter_800.pth'
        )
        save_export(
            export_student(config, str(folder / 'iter_800.pth'), 2),
            str(folder / 'export'),
        )
    return folder


def runnable():
    """Blocks without gaps; the others are configs, shown in parts."""
    return [
        (page, block) for page, block in python_blocks() if '...' not in block
    ]


@pytest.mark.parametrize(
    'case', runnable(), ids=lambda case: f'{case[0]}: {case[1][:40]!r}'
)
def test_python_blocks_run(case, export, monkeypatch):
    monkeypatch.chdir(export)
    names = dict(noise=torch.randn(2, 24), label=torch.tensor([3, 7]))
    if '_base_' in case[1]:  # a whole config
        Path('whole.py').write_text(case[1])
        config = Config.fromfile('whole.py')
        assert not config_problems(config)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            for hook in hooks_of(config).values():
                registry.HOOKS.build(hook)
        names['generator'] = config.model.generator
    else:
        exec(compile(case[1], case[0], 'exec'), names)
    if 'generator' in names:  # a config, to be built
        with DefaultScope.overwrite_default_scope('mmagic'):
            built = registry.MODELS.build(names['generator'])
        names['images'] = built(*example_inputs(built)[:1])
    assert torch.as_tensor(names['images']).ndim == 4


def test_python_blocks_with_gaps_are_python():
    for page, block in python_blocks():
        # `...` among keywords stands for more of them
        compile(
            block.replace(', ...)', ')').replace('    ...)', '    )'),
            page,
            'exec',
        )


# what examples show as a part of a config
SETTINGS = {'default_hooks', 'train_dataloader', 'val_evaluator'}
PACKAGES = (
    'apis',
    'channels',
    'datasets',
    'engine.hooks',
    'evaluation',
    'export',
    'generators',
    'models',
    'models.losses',
    'sampling',
)


def explained_parts():
    """What users call with arguments or by an example, by name."""
    known = set()
    for package in PACKAGES:
        module = importlib.import_module(f'ppcd_mmagic.{package}')
        own = [
            name
            for name, part in vars(module).items()
            if getattr(part, '__module__', '') == module.__name__
            and not name.startswith('_')
        ]
        for name in getattr(module, '__all__', own):
            part = getattr(module, name)
            text = inspect.getdoc(part) or ''
            explained = 'Args:' in text or '>>>' in text
            if callable(part) and explained and part not in known:
                known.add(part)
                yield pytest.param(part, id=f'{package}.{name}')


@pytest.mark.parametrize('part', explained_parts())
def test_examples_in_docstrings_show_what_happens(part, export, monkeypatch):
    text = inspect.getdoc(part)
    assert '>>>' in text, 'what takes arguments has an example'
    (preamble,) = blocks('docs/api.md', 'pycon')
    example = doctest.DocTestParser().get_doctest(
        f'{preamble}\n{text}', {}, part.__name__, None, 0
    )
    runner = doctest.DocTestRunner(
        verbose=False,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    told = io.StringIO()
    monkeypatch.chdir(export)
    runner.run(example, out=told.write, clear_globs=False)
    assert not runner.failures, told.getvalue()
    settings = SETTINGS & set(example.globs)
    if settings:
        config = Config.fromfile('student.py')
        for key in settings:
            config[key] = {**config[key], **example.globs[key]}
        assert not config_problems(config)
