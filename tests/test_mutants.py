"""The tool that counts what the tests notice; `make mutants` runs these."""

import json
import time
from types import SimpleNamespace

import pytest
from mutants import trial
from mutants.table import BEGIN, END, write_table
from mutants.trial import Known, Trial

SOURCE = '''
"""Doc 1."""
__all__ = ['thing']


def thing(x: 'int', scale=2) -> 'int':
    """Twice 2."""
    if x < 0:
        raise ValueError(f'{x} must be 0 at least')
    print('scaled by 3')
    return scale * x.detach()
'''


def changes(source):
    mutants = pytest.importorskip(
        'mutants.operators',
        reason='LibCST comes with make mutants',
        exc_type=ImportError,
    ).mutants
    return {(m.was, m.becomes): m for m in mutants('thing.py', source)}


def test_what_has_behaviour_is_changed_and_texts_are_not():
    line = 'return scale * x.detach()'
    definition = "def thing(x: 'int', scale={}) -> 'int':"
    assert set(changes(SOURCE)) == {
        (definition.format(2), definition.format(3)),
        ('if x < 0:', 'if x <= 0:'),
        ('if x < 0:', 'if x < 1:'),
        (line, 'return scale / x.detach()'),
        (line, 'return scale * x'),
    }


def test_statements_contexts_and_arguments_are_left_out_or_swapped():
    assert set(
        changes("""
def step(self):
    with no_grad():
        self.clip(low, high)
""")
    ) == {
        ('with no_grad():', 'if True:'),
        ('self.clip(low, high)', 'pass'),
        ('self.clip(low, high)', 'self.clip(low, )'),
        ('self.clip(low, high)', 'self.clip(high, low)'),
    }


def test_a_mutant_is_the_whole_file_and_equal_lines_are_told_apart():
    source = 'a = x + 1\nb = 0\na = x + 1\n'
    mutants = changes(source)['a = x + 1', 'a = x - 1']
    assert mutants.key == 'thing.py: a = x + 1 -> a = x - 1 #2'
    assert mutants.source == 'a = x + 1\nb = 0\na = x - 1\n'


def test_a_smaller_sample_is_part_of_a_larger_one_in_the_files_order():
    mutants = list(changes(SOURCE).values())
    sample = pytest.importorskip('mutants.run').sample
    assert sample(mutants, 9) == mutants
    two, three = sample(mutants, 2), sample(mutants, 3)
    assert len(two) == 2 and len(three) == 3 and set(two) < set(three)
    assert three == [m for m in mutants if m in three]


@pytest.fixture
def doc(tmp_path):
    path = tmp_path / 'tests.md'
    path.write_text(f'Words.\n\n{BEGIN}\n{END}\nMore words.\n')
    return path


def test_table_keeps_other_modules_and_words_around_it(doc, tmp_path):
    reasons = tmp_path / 'reasons.json'
    reasons.write_text(json.dumps({'hooks': {'a.py: x -> y': 'Equal.'}}))
    write_table('losses', 9, {'b.py: 1 -> 2': 'test_b.py::test'}, doc, reasons)
    write_table(
        'hooks',
        3,
        {
            'a.py: x -> y': None,
            'a.py: u -> v': None,
            'a.py: s -> t': 'test_a.py::test',
        },
        doc,
        reasons,
    )
    text = doc.read_text()
    assert text.startswith('Words.\n') and text.endswith('More words.\n')
    assert '| losses | 9 | 1 | 1 | 0 | 100.0 % |' in text
    assert '| hooks | 3 | 3 | 1 | 2 | 33.3 % |' in text
    assert '- `a.py`: `` x -> y ``\n  Equal.' in text
    assert '- `a.py`: `` u -> v ``\n  **no reason given**' in text
    assert 's -> t' not in text


def test_table_written_again_is_the_same(doc, tmp_path):
    reasons = tmp_path / 'reasons.json'
    reasons.write_text('{}')
    write_table('losses', 1, {'b.py: 1 -> 2': None}, doc, reasons)
    once = doc.read_text()
    write_table('losses', 1, {'b.py: 1 -> 2': None}, doc, reasons)
    assert doc.read_text() == once


THING = 'def count(n):\n    while n > 0:\n        n -= 1\n    return n\n'
TESTS = """
from thing import count

def test_type(): assert isinstance(count(2), int)

def test_end(): assert count(2) == 0
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests' / 'test_thing.py').write_text(TESTS)
    (tmp_path / 'pytest.ini').write_text('[pytest]\nmarkers = slow: slow\n')
    (tmp_path / 'thing.py').write_text(THING)
    return tmp_path


def tried(tree, source, **limits):
    fork = Trial(
        tree, ['tests/test_thing.py'], Known(**limits), 'thing.py', source
    )
    while not fork.ended():
        time.sleep(0.02)
    result = fork.result()
    assert (tree / 'thing.py').read_text() == THING
    return result


@pytest.mark.parametrize(
    'source, failed',
    [
        (THING, None),
        (THING.replace('> 0', '> 1'), 'tests/test_thing.py::test_end'),
        (THING.replace('-= 1', '-= 0'), '(out of time)'),
        (f'import os\nos.abort()\n{THING}', '(crashed)'),
        (THING.replace('count', 'other'), 'tests/test_thing.py'),
    ],
    ids=['unchanged', 'wrong', 'endless', 'dead', 'not importable'],
)
def test_a_fork_tells_which_test_notices(tree, source, failed):
    result = tried(tree, source, cpu_limit=4)
    assert result['passed'] == (failed is None)
    assert result['failed'] == failed


def test_what_waits_for_ever_is_ended_and_what_waits_a_while_is_not(
    tree, monkeypatch
):
    monkeypatch.setattr(trial, 'HANGS', 4)
    waiting = 'import time\ntime.sleep({})\n' + THING
    assert tried(tree, waiting.format(2))['passed']
    assert tried(tree, waiting.format(99))['failed'] == '(out of time)'


WATCHED = """
import functools, pytest, subprocess, sys
from thing import count, double

@functools.cache
def kept(n): return count(n)

@pytest.fixture(scope='module')
def made(): return count(3)

def test_fixture(made): assert made == 0
def test_count(): assert count(2) == 0
def test_double(): assert double(2) == 4
def test_again(made): assert double(1) == 2
@pytest.mark.parametrize('n', [1])
def test_kept(n): assert kept(n) == 0
@pytest.mark.parametrize('n, m', [(1, 2)])
def test_what_was_kept(n, m): assert kept(n) == 0
def test_process(): subprocess.run([sys.executable, '-c', ''])
"""
DOUBLE = """
def double(n):
    def times(m):
        return m * n
    return times(2)
"""


@pytest.mark.parametrize(
    'change, run',
    [
        (
            ('n > 0', 'n >= 1'),
            'fixture count again kept[1] what_was_kept[1-2] process',
        ),
        (('m * n', 'n * m'), 'double again process'),
        (
            ('LIMIT = 0', 'LIMIT = 1 - 1'),
            'fixture count double again kept[1] what_was_kept[1-2] process',
        ),
    ],
)
def test_only_tests_that_run_the_changed_function_are_run(tree, change, run):
    source = THING + DOUBLE + 'LIMIT = 0'
    (tree / 'thing.py').write_text(source)
    (tree / 'tests' / 'test_thing.py').write_text(WATCHED)
    done = []
    for known in (Known(), None):
        fork = Trial(
            tree,
            ['tests/test_thing.py'],
            known or Known(called=done[0]['called']),
            'thing.py',
            source.replace(*change) if done else source + '#',
            watch=not done,
        )
        while not fork.ended():
            time.sleep(0.02)
        done.append(fork.result())
    assert done[1]['passed']
    assert {name.partition('::test_')[2] for name in done[1]['seconds']} == set(
        run.split()
    )


def test_edited_tests_concern_what_they_noticed_and_what_nothing_did(
    tmp_path, monkeypatch
):
    run = pytest.importorskip('mutants.run')
    monkeypatch.setattr(run, 'RESULTS', tmp_path)
    (tmp_path / 'tests').mkdir()
    tests = [f'tests/test_{name}.py' for name in ('a', 'b')]
    for name in ('thing.py', *tests):
        (tmp_path / name).write_text(SOURCE)
    mutants = [SimpleNamespace(key=key, path='thing.py') for key in 'nab']
    by = dict(n=None, a=f'{tests[0]}::test', b=f'{tests[1]}::test')
    for mutant in mutants:
        run.Results('m', tmp_path, {'thing.py': tests}).keep(
            mutant, by[mutant.key]
        )

    def valid():
        results = run.Results('m', tmp_path, {'thing.py': tests})
        return [m.key for m in mutants if results.valid_for(m)]

    assert valid() == ['n', 'a', 'b']
    (tmp_path / tests[0]).write_text('# edited')
    assert valid() == ['b']
    (tmp_path / 'thing.py').write_text('# edited')
    assert valid() == []
