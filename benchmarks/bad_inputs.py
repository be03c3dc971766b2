"""Bad inputs by kind: what each argument, setting and file must not be."""

import argparse
import contextlib
import importlib
import itertools
import os
import os.path as osp
import re
import shutil
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest import mock

import torch
from mmengine.config import Config
from stage import ITERATIONS, Stage, paint
from trials import ROOT, Trial, accepted, refused

TABLE = (
    '--max-iters',
    '1',
    '--cfg-options',
    'model.teacher.checkpoint={teacher}',
)
# with these a tool does what it should, paths of the stage in place of names
BASE = dict(
    train=['{config}', '--work-dir', 'run'],
    test=['{judged}', '{checkpoint}', '--work-dir', 'test'],
    export=['{config}', '{checkpoint}', '--out-dir', 'out'],
    interpolate=[
        '{config}',
        '{checkpoint}',
        '--out-dir',
        'out',
        '--steps',
        '2',
        '--frames',
        '2',
    ],
    report=[
        '--model',
        'a',
        '{config}',
        '{checkpoint}',
        '--classifier',
        '{judge_config}',
        '{judge}',
        '--out',
        'out/report.html',
        '--images-per-class',
        '2',
        '--columns',
        '2',
    ],
    sample=[
        '{config}',
        '{checkpoint}',
        '--classes',
        '0',
        '--number',
        '1',
        '--out-dir',
        'out',
    ],
    benchmark=[
        '{config}',
        '{checkpoint}',
        '--rounds',
        '1',
        '--batch-sizes',
        '1',
        '--out-dir',
        'out',
    ],
    table_a=['--root', 'out', '--seeds', '0', *TABLE],
    pruning_rules=['--root', 'out', '--seeds', '0', *TABLE],
    ablation=['--root', 'out', '--seeds', '0', *TABLE],
    baselines=['--root', 'out', *TABLE],
    alpha_sweep=['--root', 'out', *TABLE],
)
TABLES = ('table_a', 'pruning_rules', 'ablation', 'baselines', 'alpha_sweep')


def arguments(stage: Stage, tool: str, *more: str, **instead: str) -> list:
    """Those of ``BASE``, with some paths in place of the stage's."""
    if 'config' in instead:
        instead.setdefault('judged', instead['config'])
    paths = {**vars(stage), **instead}
    return [part.format(**paths) for part in BASE[tool]] + list(more)


# ---------------------------------------------------------------- arguments
WRONG = dict(
    positive=('0', '-1', '2.5', 'many', ''),
    natural=('-1', '1.5', 'x'),
    seed=('-1', '1.5', 'x', str(2**32)),
    fraction=('1', '-0.1', 'half', 'nan'),
    int=('x', '1.5', '0', '-3'),
    float=('x', '0', '-1', 'nan'),
)


def parser_of(tool: str) -> argparse.ArgumentParser:
    """The parser that a tool makes when it is called."""
    parsers = []

    def stop(parser: argparse.ArgumentParser) -> None:
        parsers.append(parser)
        raise InterruptedError

    with (
        mock.patch.object(argparse.ArgumentParser, 'parse_args', stop),
        contextlib.suppress(InterruptedError),
    ):
        importlib.import_module(tool).parse_args()
    return parsers[0]


def option_trials(stage: Stage) -> Iterator[Trial]:
    """Every option of every tool with everything that it cannot be."""
    for tool in BASE:
        given = partial(arguments, stage, tool)

        def trial(what: str, *more: str, says: str, tool=tool, given=given):
            return Trial(
                'options of the command line',
                f'{tool} {what}',
                refused(tool, given(*more), says),
            )

        yield trial('unknown option', '--nonsense', '1', says='--nonsense')
        for action in parser_of(tool)._actions:
            if not action.option_strings or action.nargs == 0:
                continue
            option = action.option_strings[-1]
            kind = getattr(action.type, '__name__', '')
            wrong = ('nonsense',) if action.choices else WRONG.get(kind, ())
            for value in wrong:
                yield trial(
                    f'{option}={value!r}',
                    option,
                    value,
                    says=option.strip('-').replace('-', '[-_]'),
                )
            if action.nargs not in ('?', '*'):
                yield trial(
                    f'{option} without value',
                    option,
                    says=f'{option}.*expected',
                )
        needed = [
            a for a in parser_of(tool)._actions if a.required and a.nargs != 0
        ]
        if needed:
            yield Trial(
                'options of the command line',
                f'{tool} of nothing',
                refused(tool, [], 'required'),
            )


SETTINGS = {
    'no value': ('model', '='),
    'a place that is none': ('custom_hooks.9.alpha=1', 'custom_hooks'),
    'a name as a place': ('custom_hooks.last.alpha=1', 'custom_hooks'),
    'a part in a number': ('train_cfg.max_iters.deep=1', 'max_iters'),
    'a number for the model': ('model=5', 'model'),
}


def setting_trials(stage: Stage) -> Iterator[Trial]:
    for tool, (what, (text, says)) in itertools.product(
        ('train', 'test', 'export', *TABLES), SETTINGS.items()
    ):
        yield Trial(
            'settings on the command line',
            f'{tool}: {what}',
            refused(tool, arguments(stage, tool, '--cfg-options', text), says),
        )


# -------------------------------------------------------------- config files
def write(text: Any) -> Callable[[str], None]:
    """Make a file of it, given the path."""

    def make(path: str) -> None:
        with open(path, 'wb') as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    return make


CONFIGS = {
    'missing': ('no.py', lambda path: None),
    'a folder': ('bad.py', os.mkdir),
    'empty': ('bad.py', write('')),
    'without a model': ('bad.py', write('train_cfg = dict(max_iters=1)')),
    'with a slip of the pen': ('bad.py', write('model = dict(')),
    'with an error': ('bad.py', write('model = 1 / 0')),
    'of another ending': ('bad.txt', write('model = dict()')),
    'no text': ('bad.py', write(b'\x89PNG\0\1\2')),
    'of a base that is missing': ('bad.py', write('_base_ = "none.py"')),
    'half a JSON': ('bad.json', write('{"model": ')),
    'of a model that is a list': ('bad.py', write('model = [1]')),
    'of a model without a generator': (
        'bad.py',
        write('model = dict(type="PPCDGAN")'),
    ),
    'of an unknown model': (
        'bad.py',
        write('model = dict(type="Nonsense", generator=dict(type="Nonsense"))'),
    ),
}


def config_file_trials(stage: Stage) -> Iterator[Trial]:
    for tool, (what, (name, make)) in itertools.product(
        ('train', 'test', 'export', 'interpolate', 'report', 'sample'),
        CONFIGS.items(),
    ):

        def prepare(folder: str, name=name, make=make) -> None:
            make(osp.join(folder, name))

        yield Trial(
            'config files',
            f'{tool}: config {what}',
            refused(
                tool,
                arguments(stage, tool, config=name),
                'bad|no.py|config|Nonsense',
                prepare,
            ),
        )
    for what, (name, make) in CONFIGS.items():

        def prepare(folder: str, name=name, make=make) -> None:
            make(osp.join(folder, name))

        yield Trial(
            'config files',
            f'report: config of the judge {what}',
            refused(
                'report',
                arguments(stage, 'report', judge_config=name),
                'bad|no.py|config|Nonsense|classifier',
                prepare,
            ),
        )


# ------------------------------------------------------------------ settings
SECTIONS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
    'val_evaluator',
    'val_cfg',
    'visualizer',
    'randomness',
    'log_processor',
)
LEAST = dict(
    max_iters=1,
    val_interval=1,
    batch_size=1,
    num_workers=0,
    fake_nums=2,
    num_classes=1,
    noise_size=1,
    loss_weight=0,
    lr=0,
    base_channels=1,
    alpha=0,
    output_scale=1,
    input_scale=1,
    size=1,
    seed=0,
)
# what is never read, or anything: a name to show, free words
FREE = re.compile(r'name$|vis_kwargs_list|prefix$|\.rule$|pipeline.*keys$')


def settings_of(config: Config) -> Iterator[Tuple[str, Any]]:
    """Every setting and every part of a config by its dotted name."""

    def walk(node: Any, name: str) -> Iterator[Tuple[str, Any]]:
        yield name, node
        pairs = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node if isinstance(node, list) else ())
        )
        for key, value in pairs:
            if '.' not in str(key):
                yield from walk(value, f'{name}.{key}')

    for section in SECTIONS:
        if section in config:
            yield from walk(config[section], section)


def wrong_values(name: str, value: Any) -> Iterator[Tuple[str, Any]]:
    key = name.split('.')[-1]
    if isinstance(value, dict):
        if 'type' in value:
            yield f'{name}.nonsense', 1
    elif isinstance(value, bool):
        yield name, 'no'
    elif isinstance(value, (int, float)):
        yield name, 'text'
        if key in LEAST:
            yield name, LEAST[key] - 1
    elif key == 'type':
        yield name, 'Nonsense'
    elif key == 'checkpoint':
        yield name, 'absent.pth'
        yield name, 5
    elif isinstance(value, str):
        yield name, 'nonsense'
        yield name, 5


def config_trials(stage: Stage) -> Iterator[Trial]:
    """Every setting of the digits' config with what it cannot be."""
    config = Config.fromfile(stage.judged)
    for name, value in settings_of(config):
        if FREE.search(name):
            continue
        for setting, wrong in wrong_values(name, value):
            *_, owner, key = setting.split('.')
            part = dict(settings_of(config)).get(setting.rpartition('.')[0])
            kind = part.get('type') if isinstance(part, dict) else key
            yield Trial(
                'settings of a config',
                f'{setting}={wrong!r}',
                refused(
                    'train',
                    arguments(
                        stage,
                        'train',
                        '--cfg-options',
                        f'{setting}={wrong}',
                        config=stage.judged,
                    ),
                    rf'\b({key}|{owner}|{kind}|{wrong})\b',
                ),
            )


# --------------------------------------------------------------- checkpoints
class Harm:
    """An object that would write a file if it were unpickled."""

    def __reduce__(self):
        return open, ('harm_was_done', 'w')


def state_of(path: str) -> Dict[str, torch.Tensor]:
    if path.endswith('.safetensors'):
        from safetensors.torch import load_file

        return dict(state_dict=load_file(path))
    return torch.load(path, weights_only=False)


def save(content: Any, path: str) -> None:
    if path.endswith('.safetensors'):
        from safetensors.torch import save_file

        state = {
            key: value.clone() for key, value in content['state_dict'].items()
        }
        save_file(state, path)
    else:
        torch.save(content, path)


def changed_state(change: Callable) -> Callable:
    """A damage that changes a weight, in each copy that there is of it."""

    def damage(good: str, path: str, other: str) -> None:
        checkpoint = state_of(good)
        state = checkpoint.get('state_dict', checkpoint)
        weights = [
            key
            for key, value in state.items()
            if value.is_floating_point() and value.dim() > 1
        ]
        ours = [key for key in weights if key.startswith('generator.')]
        tail = '.'.join((ours or weights)[-1].split('.')[-2:])
        for key in [key for key in weights if key.endswith(tail)]:
            change(state, key)
        save(checkpoint, path)

    return damage


def set_first(value: float) -> Callable:

    def change(state: dict, key: str) -> None:
        state[key] = state[key].clone()
        state[key].view(-1)[0] = value

    return change


def cut(good: str, path: str, other: str, fraction: float) -> None:
    with open(good, 'rb') as file:
        content = file.read()
    write(content[: int(fraction * len(content))])(path)


# what is done, given a good file, the path to write, and another model's file
DAMAGES: Dict[str, Callable[[str, str, str], Any]] = {
    'missing': lambda good, path, other: None,
    'a folder': lambda good, path, other: os.mkdir(path),
    'empty': lambda good, path, other: write('')(path),
    'truncated in the middle': partial(cut, fraction=0.5),
    'truncated at its end': partial(cut, fraction=0.999),
    'a web page': lambda good, path, other: write('<html></html>')(path),
    'with objects': lambda good, path, other: torch.save(
        dict(state_of(good), harm=Harm()), path
    ),
    'a list': lambda good, path, other: torch.save([1, 2], path),
    'of texts': lambda good, path, other: torch.save(
        dict(state_dict=dict(a='b')), path
    ),
    'of nothing': lambda good, path, other: torch.save(
        dict(state_dict={}), path
    ),
    'with NaN': changed_state(set_first(float('nan'))),
    'with infinity': changed_state(set_first(float('inf'))),
    'lacking a weight': changed_state(lambda state, key: state.pop(key)),
    'with another weight': changed_state(
        lambda state, key: state.update({f'{key}_2': torch.ones(1)})
    ),
    'with a larger weight': changed_state(
        lambda state, key: state.update(
            {key: torch.cat([state[key], state[key]])}
        )
    ),
    'of another model': lambda good, path, other: shutil.copy(other, path),
}


def infer(config: str, weights: str) -> Callable[[], None]:
    """As a program does that draws with this package's inferencer."""

    def main() -> None:
        from ppcd_mmagic.apis import PPCDInferencer

        PPCDInferencer(config, weights).infer(label=3)

    return main


def init(config: str, weights: str) -> Callable[[], None]:
    """As a program does that uses MMagic's own function."""

    def main() -> None:
        from mmagic.apis import init_model

        init_model(config, weights, device='cpu')

    return main


def consumers(stage: Stage) -> Dict[str, Tuple[str, str, Any, list]]:
    """By their names, what they read: a good file, one of another model, the
    tool and its arguments, with ``bad`` for the file."""
    given = partial(arguments, stage)
    exported = osp.join(stage.export, 'generator.pth')
    config = osp.join(stage.export, 'config.py')
    tensors = osp.join(stage.export, 'generator.safetensors')
    return {
        'teacher': (
            stage.teacher,
            stage.judge,
            'train',
            given('train', '--cfg-options', 'model.teacher.checkpoint=bad.pth'),
        ),
        'load_from': (
            stage.checkpoint,
            stage.judge,
            'train',
            given('train', '--cfg-options', 'load_from=bad.pth'),
        ),
        '--resume': (
            stage.checkpoint,
            stage.judge,
            'train',
            given('train', '--resume', 'bad.pth'),
        ),
        'judge': (
            stage.judge,
            stage.teacher,
            'train',
            given(
                'train',
                '--cfg-options',
                'val_evaluator.metrics.0.checkpoint=bad.pth',
                config=stage.judged,
            ),
        ),
        'test': (
            stage.checkpoint,
            stage.judge,
            'test',
            given('test', checkpoint='bad.pth'),
        ),
        'test of an export': (
            exported,
            stage.judge,
            'test',
            given('test', checkpoint='bad.pth', config=config),
        ),
        'export': (
            stage.checkpoint,
            stage.judge,
            'export',
            given('export', checkpoint='bad.pth'),
        ),
        'interpolate': (
            stage.checkpoint,
            stage.judge,
            'interpolate',
            given('interpolate', checkpoint='bad.pth'),
        ),
        'report': (
            stage.checkpoint,
            stage.judge,
            'report',
            given('report', checkpoint='bad.pth', config=stage.judged),
        ),
        "report's judge": (
            stage.judge,
            stage.teacher,
            'report',
            given('report', judge='bad.pth', config=stage.judged),
        ),
        'sample': (
            stage.checkpoint,
            stage.judge,
            'sample',
            given('sample', checkpoint='bad.pth'),
        ),
        'sample of an export': (
            exported,
            stage.judge,
            'sample',
            given('sample', checkpoint='bad.pth', config=config),
        ),
        'sample of safetensors': (
            tensors,
            stage.judge,
            'sample',
            given('sample', checkpoint='bad.safetensors', config=config),
        ),
        'PPCDInferencer': (exported, stage.judge, infer(config, 'bad.pth'), []),
    }


def checkpoint_trials(stage: Stage) -> Iterator[Trial]:
    for (consumer, (good, other, tool, argv)), (
        what,
        damage,
    ) in itertools.product(consumers(stage).items(), DAMAGES.items()):
        name = 'bad.safetensors' if 'bad.safetensors' in argv else 'bad.pth'

        def prepare(
            folder: str, good=good, other=other, damage=damage, name=name
        ) -> None:
            damage(good, osp.join(folder, name), other)

        trial = refused(tool, argv, name, prepare)

        def play(folder: str, trial=trial):
            outcome = trial(folder)
            if osp.exists(osp.join(folder, 'harm_was_done')):
                return outcome._replace(verdict='lost', why='was executed')
            return outcome

        yield Trial('checkpoints', f'{consumer}: {what}', play)


# ------------------------------------------------------------------ pictures
def spoil(name: str, content: Any = None, cut_at: float = 0) -> Callable:
    """A damage of one picture, given the folder of them."""

    def damage(folder: str) -> None:
        path = osp.join(folder, name)
        if cut_at:
            cut(path, path, '', cut_at)
        else:
            write(content)(path)

    return damage


def painted(**kwargs: Any) -> Callable[[str], None]:

    def damage(folder: str) -> None:
        shutil.rmtree(folder)
        paint(folder, **kwargs)

    return damage


def one_deeper(folder: str) -> None:
    shutil.move(folder, f'{folder}_')
    for part in ('train', 'val'):
        shutil.copytree(f'{folder}_', osp.join(folder, part))


def flat(folder: str) -> None:
    for name in os.listdir(osp.join(folder, 'cat')):
        shutil.move(osp.join(folder, 'cat', name), osp.join(folder, name))
    for name in ('cat', 'dog'):
        shutil.rmtree(osp.join(folder, name))


def renamed(ending: str) -> Callable[[str], None]:

    def damage(folder: str) -> None:
        for name in os.listdir(osp.join(folder, 'cat')):
            path = osp.join(folder, 'cat', name)
            os.rename(path, path.replace('.png', ending))

    return damage


def dangling(folder: str) -> None:
    os.remove(osp.join(folder, 'cat', '0.png'))
    os.symlink('nowhere.png', osp.join(folder, 'cat', '0.png'))


def as_a_file(folder: str) -> None:
    shutil.rmtree(folder)
    write('')(folder)


def emptied(folder: str) -> None:
    shutil.rmtree(folder)
    os.mkdir(folder)


def jpegs_cut(folder: str) -> None:
    painted(ending='jpg')(folder)
    spoil('cat/0.jpg', cut_at=0.6)(folder)


def a_class_more(folder: str) -> None:
    paint(folder, classes=('emu',))


def a_class_of_none(folder: str) -> None:
    os.mkdir(osp.join(folder, 'emu'))


def another_class(folder: str) -> None:
    os.rename(osp.join(folder, 'dog'), osp.join(folder, 'doge'))


PICTURES = {
    'missing': (shutil.rmtree, 'not found'),
    'a file': (as_a_file, 'not found|layout'),
    'empty': (emptied, 'layout'),
    'without folders of classes': (flat, 'layout'),
    'one folder too deep': (one_deeper, 'layout|name one of them'),
    'a class without pictures': (a_class_of_none, 'emu|classes'),
    'a class too many': (a_class_more, '3 classes'),
    'a class of another ending': (renamed('.heic'), 'cat'),
    'an empty file': (spoil('cat/0.png', ''), r'0\.png \(empty'),
    'a text': (spoil('cat/0.png', 'hello'), r'0\.png \(no picture'),
    'a web page': (spoil('dog/1.png', '<html>'), r'1\.png \(no picture'),
    'half a PNG': (spoil('cat/0.png', cut_at=0.5), r'0\.png \(trunc'),
    'half a JPEG': (jpegs_cut, r'0\.jpg \(trunc'),
    'the head of a PNG alone': (spoil('cat/0.png', cut_at=0.001), r'0\.png'),
    'a link to nothing': (dangling, r'0\.png'),
    'of 32 bits': (painted(mode='I', ending='tiff'), r'\.tiff'),
}


def folder_arguments(folder: str, *more: str, which: str = 'train') -> list:
    """A training of the judge of one's own pictures."""
    return [
        f'{ROOT}/configs/classifier/classifier_folder.py',
        '--work-dir',
        'run',
        *more,
        '--cfg-options',
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.persistent_workers=False',
        'default_hooks.checkpoint.interval=1',
        *(
            f'{loader}_dataloader.dataset.data_root={folder}'
            for loader in which.split()
        ),
    ]


def in_environment(**values: str) -> Callable[[], None]:
    return lambda: os.environ.update(values)


def copied(stage: Stage, damage: Callable, *names: str) -> Callable:
    """Pictures of the stage in folders of the trial, the last one damaged."""

    def prepare(folder: str) -> None:
        for name in names:
            shutil.copytree(stage.pictures, osp.join(folder, name))
        damage(osp.join(folder, names[-1]))

    return prepare


def picture_trials(stage: Stage) -> Iterator[Trial]:
    for what, (damage, says) in PICTURES.items():
        yield Trial(
            'pictures',
            f'pictures: {what}',
            refused(
                'train',
                folder_arguments('p', which='train val'),
                says,
                copied(stage, damage, 'p'),
            ),
        )
        yield Trial(
            'pictures',
            f'pictures of the validation: {what}',
            refused(
                'train',
                folder_arguments('p')[:-1]
                + [
                    'train_dataloader.dataset.data_root=good',
                    'val_dataloader.dataset.data_root=p',
                ],
                says,
                copied(stage, damage, 'good', 'p'),
            ),
        )
    yield Trial(
        'pictures',
        'other classes in the validation',
        refused(
            'train',
            folder_arguments('p')[:-1]
            + [
                'train_dataloader.dataset.data_root=good',
                'val_dataloader.dataset.data_root=p',
            ],
            'doge',
            copied(stage, another_class, 'good', 'p'),
        ),
    )
    for classes in ('x', '0', '-2', '2.5', '3', ''):
        yield Trial(
            'pictures',
            f'CLASSES={classes!r}',
            refused(
                'train',
                folder_arguments('p', which='train val'),
                'class',
                copied(stage, lambda path: None, 'p'),
                in_environment(CLASSES=classes),
            ),
        )
    for what, path in {
        'of nothing': '',
        'that is not there': 'none',
        "with an apostrophe's break": "it's\\n",
    }.items():
        yield Trial(
            'pictures',
            f'PICTURES {what}',
            refused(
                'train',
                folder_arguments('', which=''),
                'data|layout',
                inside=in_environment(PICTURES=path),
            ),
        )
    yield Trial(
        'pictures',
        'a list of pictures that is not there',
        refused(
            'train',
            folder_arguments('p', which='train val')
            + ['train_dataloader.dataset.ann_file=none.txt'],
            'none.txt',
            copied(stage, lambda path: None, 'p'),
        ),
    )


def trained(folder: str) -> bool:
    return osp.isfile(osp.join(folder, 'run', 'iter_1.pth'))


def a_hundred_and_one_broken(folder: str) -> None:
    for index in range(4, 60):
        for name in ('cat', 'dog'):
            shutil.copy(
                osp.join(folder, name, '0.png'),
                osp.join(folder, name, f'{index}.png'),
            )
    spoil('cat/0.png', 'hello')(folder)


def spoilt_record(folder: str) -> None:
    write('{"finger')(osp.join(folder, '.ppcd_mmagic_pictures.json'))


UNUSUAL = {
    'grey': painted(mode='L'),
    'with transparency': painted(mode='RGBA'),
    'of a palette': painted(mode='P'),
    'of one bit': painted(mode='1'),
    'in CMYK': painted(mode='CMYK', ending='jpg'),
    'named .JPG': painted(ending='JPG', format='JPEG'),
    'webp': painted(ending='webp'),
    'one in a hundred broken': a_hundred_and_one_broken,
    'with a record that is spoilt': spoilt_record,
}
PLACES = (
    "an apostrophe's",
    'two  blanks',
    'Füße',
    'back\\slash',
    '[a]*?',
    'line\nbreak',
    '{braces}',
    '"quoted"',
    '%d',
    '日本',
)


def unusual_trials(stage: Stage) -> Iterator[Trial]:
    for what, damage in UNUSUAL.items():
        yield Trial(
            'unusual, but right',
            f'pictures {what}',
            accepted(
                'train',
                folder_arguments('p', which='train val'),
                trained,
                copied(stage, damage, 'p'),
            ),
        )
    for place in PLACES:
        yield Trial(
            'unusual, but right',
            f'pictures in {place!r}',
            accepted(
                'train',
                folder_arguments('', which=''),
                trained,
                copied(stage, lambda path: None, place),
                in_environment(PICTURES=place),
            ),
        )
    for place in PLACES:
        yield Trial(
            'unusual, but right',
            f'training in {place!r}',
            accepted(
                'train',
                arguments(stage, 'train', '--work-dir', place),
                lambda folder, place=place: osp.isfile(
                    osp.join(folder, place, f'iter_{ITERATIONS}.pth')
                ),
            ),
        )
    for what, damage in {
        'bare weights': lambda state: state['state_dict'],
        "a distributed training's": lambda state: dict(
            state_dict={
                key.replace('generator.', 'generator.module.', 1): value
                for key, value in state['state_dict'].items()
            }
        ),
        'weights alone': lambda state: dict(state_dict=state['state_dict']),
    }.items():

        def prepare(folder: str, damage=damage) -> None:
            torch.save(
                damage(state_of(stage.checkpoint)),
                osp.join(folder, 'other.pth'),
            )

        for tool, made in (
            ('sample', 'out/pictures.json'),
            ('export', 'out/summary.json'),
            ('test', 'test'),
        ):
            yield Trial(
                'unusual, but right',
                f'{tool} of {what}',
                accepted(
                    tool,
                    arguments(stage, tool, checkpoint='other.pth'),
                    lambda folder, made=made: osp.exists(
                        osp.join(folder, made)
                    ),
                    prepare,
                ),
            )


# ------------------------------------------------------------------- exports
def with_file(name: str, source: Callable[[Stage], str]) -> Callable:

    def damage(stage: Stage, folder: str) -> None:
        shutil.copy(source(stage), osp.join(folder, name))

    return damage


def flipped(name: str) -> Callable:
    """One bit of the weights is another."""

    def damage(stage: Stage, folder: str) -> None:
        path = osp.join(folder, name)
        with open(path, 'rb') as file:
            content = bytearray(file.read())
        content[len(content) // 2] ^= 4
        write(bytes(content))(path)

    return damage


def scaled(stage: Stage, folder: str) -> None:
    """Weights of the same widths, and another generator's."""
    path = osp.join(folder, 'generator.pth')
    content = state_of(path)
    for value in content['state_dict'].values():
        if value.is_floating_point():
            value.mul_(1.5)
    torch.save(content, path)


def another_width(change: Callable[[list], Any]) -> Callable:

    def damage(stage: Stage, folder: str) -> None:
        path = osp.join(folder, 'config.py')
        config = Config.fromfile(path)
        sizes = config.model.generator.layer_sizes
        name = next(iter(sizes))
        sizes[name] = change(list(sizes[name]))
        config.dump(path)

    return damage


def another_layer(stage: Stage, folder: str) -> None:
    path = osp.join(folder, 'config.py')
    config = Config.fromfile(path)
    config.model.generator.layer_sizes['nonsense'] = [1, 1]
    config.dump(path)


TAMPERED = {
    'weights of another export': with_file(
        'generator.pth', lambda s: osp.join(s.other_export, 'generator.pth')
    ),
    "the student's checkpoint": with_file(
        'generator.pth', lambda s: s.checkpoint
    ),
    "the teacher's weights": with_file('generator.pth', lambda s: s.teacher),
    'config of another export': with_file(
        'config.py', lambda s: osp.join(s.other_export, 'config.py')
    ),
    'config of the training': with_file('config.py', lambda s: s.judged),
    'one bit of the weights': flipped('generator.pth'),
    'scaled weights': scaled,
    'a width of 0': another_width(lambda size: [0, *size[1:]]),
    'a width below 0': another_width(lambda size: [-1, *size[1:]]),
    'a width larger than ever': another_width(lambda size: [999, *size[1:]]),
    'a width in words': another_width(lambda size: ['two', *size[1:]]),
    'a width that is missing': another_width(lambda size: size[:-1] or [0]),
    'a layer that is none': another_layer,
}


def export_trials(stage: Stage) -> Iterator[Trial]:
    tools: Dict[str, Tuple[Any, list]] = {
        tool: (
            tool,
            arguments(
                stage, tool, config='e/config.py', checkpoint='e/generator.pth'
            ),
        )
        for tool in ('test', 'sample', 'interpolate')
    }
    tools['PPCDInferencer'] = (infer('e/config.py', 'e/generator.pth'), [])
    for (what, damage), (user, (tool, argv)) in itertools.product(
        TAMPERED.items(), tools.items()
    ):

        def prepare(folder: str, damage=damage) -> None:
            shutil.copytree(stage.export, osp.join(folder, 'e'))
            damage(stage, osp.join(folder, 'e'))

        yield Trial(
            'exports tampered with',
            f'{user}: {what}',
            refused(tool, argv, 'generator|layer|e/', prepare),
        )


# -------------------------------------------------------------------- places
def taken(name: str, make: Callable[[str], Any]) -> Callable[[str], None]:
    return lambda folder: make(osp.join(folder, name))


def notes(path: str) -> None:
    os.mkdir(path)
    write('mine')(osp.join(path, 'notes.txt'))


def place_trials(stage: Stage) -> Iterator[Trial]:
    """Where results are to go, and cannot."""
    options = dict(
        train='--work-dir',
        export='--out-dir',
        interpolate='--out-dir',
        sample='--out-dir',
        table_a='--root',
        baselines='--root',
        alpha_sweep='--root',
    )
    for tool, option in options.items():
        given = partial(arguments, stage, tool, option)
        yield Trial(
            'places for results',
            f'{tool} into a file',
            refused(tool, given('x'), 'x', taken('x', write('mine'))),
        )
        yield Trial(
            'places for results',
            f'{tool} below a file',
            refused(tool, given('x/y'), 'x', taken('x', write('mine'))),
        )
        yield Trial(
            'places for results',
            f'{tool} under too long a name',
            refused(tool, given('n' * 300), 'nnn|name'),
        )
    for tool in ('export', 'sample'):
        yield Trial(
            'places for results',
            f'{tool} among other files',
            refused(tool, arguments(stage, tool), 'out', taken('out', notes)),
        )
    for tool, option in (('test', '--out'), ('report', '--out')):
        given = partial(arguments, stage, tool, option, config=stage.judged)
        yield Trial(
            'places for results',
            f'{tool} below a file',
            refused(tool, given('x/y.json'), 'x', taken('x', write('mine'))),
        )
        yield Trial(
            'places for results',
            f'{tool} in place of a folder',
            refused(tool, given('x'), 'x', taken('x', os.mkdir)),
        )

    def used(folder: str) -> None:
        shutil.copytree(stage.run, osp.join(folder, 'run'))

    for tool, option, value in (
        ('table_a', '--seeds', '1'),
        ('baselines', '--seeds', '0'),
        ('alpha_sweep', '--alphas', '0.5'),
    ):
        yield Trial(
            'places for results',
            f'{tool}: two of {option}',
            refused(
                tool, arguments(stage, tool, option, value, value), 'twice'
            ),
        )
    yield Trial(
        'places for results',
        'a work directory that is used',
        refused(
            'train', arguments(stage, 'train'), '--resume.*--overwrite', used
        ),
    )


# ----------------------------------------------------------------- resumption
OTHERS = {
    'another alpha': 'default_hooks.mask_binarization.alpha=0.5',
    'another end of pruning': 'default_hooks.mask_binarization.end=4',
    'another student': 'model.generator.base_channels=5',
    'other masks': 'model.generator.residual_masks=shared',
    'another weight of a loss': 'model.pruning_loss.loss_weight=0.2',
    'no distillation by class': 'model.class_aware=False',
    'another part of the data': 'train_dataloader.dataset.split=train',
    'another batch': 'train_dataloader.batch_size=8',
    'another seed': 'randomness.seed=1',
    'another rate': 'optim_wrapper.generator.optimizer.lr=1e-5',
    'another schedule': 'param_scheduler.end=5',
    'another teacher': 'model.teacher.checkpoint={judge}',
}


def resumption_trials(stage: Stage) -> Iterator[Trial]:
    """A training that goes on as another."""

    def used(folder: str) -> None:
        shutil.copytree(stage.run, osp.join(folder, 'run'))

    for what, option in OTHERS.items():
        option = option.format(**vars(stage))
        words = option.partition('=')[0].split('.')
        yield Trial(
            'resumed as another',
            what,
            refused(
                'train',
                arguments(
                    stage,
                    'train',
                    '--resume',
                    '--cfg-options',
                    option,
                    config=stage.judged,
                ),
                rf'{words[-1]}|teacher',
                used,
            ),
        )


INPUTS: List[Callable[[Stage], Iterator[Trial]]] = [
    option_trials,
    setting_trials,
    config_file_trials,
    config_trials,
    checkpoint_trials,
    picture_trials,
    unusual_trials,
    export_trials,
    place_trials,
    resumption_trials,
]
