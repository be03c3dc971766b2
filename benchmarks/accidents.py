"""Accidents by kind: what happens to a run, and what must be left of it."""

import ctypes
import itertools
import os
import os.path as osp
import resource
import shutil
import signal
import time
from glob import glob
from typing import Any, Callable, Iterator, List, Optional

import torch
from bad_inputs import (
    DAMAGES,
    arguments,
    folder_arguments,
    spoil,
    state_of,
    write,
)
from stage import LENGTH, Stage, paint
from trials import (
    Outcome,
    Process,
    Trial,
    accepted,
    call,
    contents,
    judged,
    refused,
)

from ppcd_mmagic.checkpoints import read_checkpoint
from ppcd_mmagic.errors import PPCDError

Moment = Callable[[Process], Any]


# ------------------------------------------------------------------- moments
def saved(folder: str) -> int:
    """The last iteration that is saved in the run of a folder."""
    found = glob(osp.join(folder, 'run', 'iter_*.pth'))
    return max((int(path.rpartition('_')[2][:-4]) for path in found), default=0)


def after(step: int) -> Moment:
    return lambda process: process.wait_for(
        lambda: saved(process.folder) >= step
    )


def when_there(pattern: str) -> Moment:
    """When a file is there that matches."""
    return lambda process: process.wait_for(
        lambda: bool(glob(osp.join(process.folder, pattern)))
    )


MOMENTS = {
    'while it is built': when_there('run/.lock'),
    'after its first iteration': after(1),
    'in the middle': after(LENGTH // 2),
    'in the middle of a write': when_there('run/.iter_*.partial'),
}


# ------------------------------------------------------------------ judgement
def unlike(folder: str, stage: Stage) -> str:
    """What of a training that came to its end differs from the uninterrupted
    one: nothing, bit for bit."""
    name = f'iter_{LENGTH}.pth'
    path = osp.join(folder, 'run', name)
    if not osp.isfile(path):
        return f'there is no {name}'
    one, other = (
        state_of(p)['state_dict'] for p in (path, osp.join(stage.whole, name))
    )
    return ', '.join(
        key for key in other if not torch.equal(one[key], other[key])
    )[:200]


def broken(folder: str) -> str:
    """Checkpoints that are there under their names and are not whole."""
    found = []
    for path in glob(osp.join(folder, 'run', 'iter_*.pth')):
        try:
            read_checkpoint(path, 'saved')
        except PPCDError as error:
            found.append(str(error))
    return '; '.join(found)


def going_on(folder: str, stage: Stage) -> Outcome:
    """Resume, and compare with a training that had no accident."""
    if broken(folder):
        return Outcome('lost', broken(folder))
    ended = call(
        'train',
        arguments(stage, 'train', '--resume', config=stage.long),
        folder,
    )
    if ended.code:
        return Outcome('lost', f'not resumed: {judged(ended, "")}')
    different = unlike(folder, stage)
    if different:
        return Outcome('lost', f'differs after resumption: {different}')
    return Outcome('as it should')


def survived(
    stage: Stage,
    strike: Moment,
    says: Optional[str] = None,
    code: Optional[int] = None,
    inside: Optional[Callable] = None,
    more: tuple = (),
) -> Callable[[str], Outcome]:
    """A trial that goes on as if nothing had been.

    Args:
        stage (Stage): What is there.
        strike (Callable): Does the accident.
        says (str, optional): What the line must name that it ends in.
        code (int, optional): What it must end with where that is no error.
        inside (Callable, optional): See :class:`Process`.
        more (tuple): Arguments of the training with the accident.
    """

    def play(folder: str) -> Outcome:
        process = Process(
            'train',
            arguments(stage, 'train', *more, config=stage.long),
            folder,
            inside,
        )
        strike(process)
        ended = process.ended()
        if says is not None:
            outcome = judged(ended, says)
            if outcome.verdict != 'one line':
                return outcome
        elif 'Traceback (most' in ended.errors:
            return Outcome('traceback', ended.errors[-300:])
        elif ended.code != code:
            return Outcome(
                'unclear',
                f'code {ended.code} instead of {code}: {ended.errors[-300:]}',
            )
        outcome = going_on(folder, stage)
        if outcome.verdict == 'as it should' and says is not None:
            return Outcome('one line')
        return outcome

    return play


# -------------------------------------------------------------------- signals
def signal_trials(stage: Stage) -> Iterator[Trial]:
    signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    for number, (when, moment), to_all in itertools.product(
        signals, MOMENTS.items(), (False, True)
    ):
        at_once = number == signal.SIGKILL or when == 'while it is built'
        if at_once and to_all:
            continue

        def strike(
            process: Process, number=number, moment=moment, to_all=to_all
        ) -> None:
            if moment(process):
                process.send(number, to_all)

        code = -number if number == signal.SIGKILL else 128 + number
        yield Trial(
            'signals',
            f'{number.name} {when}' + ' to all processes' * to_all,
            survived(stage, strike, code=code),
        )
    for number in signals[1:]:

        def twice(process: Process, number=number) -> None:
            after(3)(process)
            for _ in range(2):
                process.send(number)
                time.sleep(0.001)

        def play(folder: str, twice=twice, number=number) -> Outcome:
            # the first may have been enough
            outcomes = [
                survived(stage, twice, code=code)(folder) for code in (-number,)
            ]
            if (
                'instead of' in outcomes[0].why
                and f'code {128 + number} ' in outcomes[0].why
            ):
                return going_on(folder, stage)
            return outcomes[0]

        yield Trial('signals', f'{number.name} twice', play)


# ------------------------------------------------------------------ full disk
def small_disk(size: int) -> Callable[[], None]:
    """No file may grow beyond it."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full_disk_trials(stage: Stage) -> Iterator[Trial]:
    for step, size in itertools.product((1, 4), (5000, 100000)):

        def strike(process: Process, step=step, size=size) -> None:
            after(step)(process)
            resource.prlimit(
                process.number, resource.RLIMIT_FSIZE, (size, size)
            )

        yield Trial(
            'full disk',
            f'training, after iteration {step}, {size} bytes left',
            survived(stage, strike, 'iter_.*too large'),
        )
    for tool, more in (
        ('export', ['--format', 'mmagic']),
        ('export', ['--format', 'safetensors']),
        ('export', ['--format', 'torch_export']),
        ('export', ['--format', 'onnx']),
        ('report', []),
        ('interpolate', []),
        ('sample', []),
    ):
        size = 3000  # as small as to be full, as large as to hold the messages
        if tool == 'sample':
            more, size = ['--grid', '--number', '40'], 5000
        yield Trial(
            'full disk',
            ' '.join([tool, *more]),
            refused(
                tool,
                arguments(stage, tool, *more, config=stage.judged),
                'too large',
                inside=small_disk(size),
            ),
        )


# ------------------------------------------------------------------ read-only
def as_a_user() -> None:
    """Without the privileges that let an administrator write anywhere."""
    if os.getuid():
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    system = ctypes.CDLL(None, use_errno=True)
    drop = 24  # PR_CAPBSET_DROP: the programs it starts have none either
    for privilege in (1, 2):  # writing anywhere, reading anything
        if system.prctl(drop, privilege, 0, 0, 0):
            raise OSError(ctypes.get_errno(), 'prctl')
    if system.capset(header, nothing):
        raise OSError(ctypes.get_errno(), 'capset')


def locked_up(name: str, mode: int = 0o555) -> Callable[[str], None]:

    def prepare(folder: str) -> None:
        path = osp.join(folder, name)
        os.makedirs(path)
        os.chmod(path, mode)

    return prepare


def read_only_trials(stage: Stage) -> Iterator[Trial]:
    for tool, place in (
        ('train', 'run'),
        ('export', 'out'),
        ('interpolate', 'out'),
        ('sample', 'out'),
        ('report', 'out'),
        ('table_a', 'out'),
        ('test', 'test'),
    ):
        yield Trial(
            'read-only',
            f'{tool} into a folder that is',
            refused(
                tool,
                arguments(stage, tool, config=stage.judged),
                place,
                locked_up(place),
                as_a_user,
            ),
        )

    def unreadable(folder: str) -> None:
        path = osp.join(folder, 'bad.pth')
        shutil.copy(stage.checkpoint, path)
        os.chmod(path, 0)

    for tool in ('test', 'sample', 'export'):
        yield Trial(
            'read-only',
            f'{tool} of a checkpoint that cannot be read',
            refused(
                tool,
                arguments(stage, tool, checkpoint='bad.pth'),
                'bad.pth',
                unreadable,
                as_a_user,
            ),
        )

    def pictures(folder: str) -> None:
        shutil.copytree(stage.pictures, osp.join(folder, 'p'))
        os.chmod(osp.join(folder, 'p'), 0o555)

    yield Trial(
        'read-only',
        'pictures in a folder that is',
        accepted(
            'train',
            folder_arguments('p', which='train val'),
            lambda folder: saved(folder) == 1,
            pictures,
            as_a_user,
        ),
    )


# --------------------------------------------------------------- what is gone
def last_of(folder: str, number: int = 1) -> List[str]:
    """The newest checkpoints."""
    found = glob(osp.join(folder, 'run', 'iter_*.pth'))
    return sorted(found, key=lambda p: int(p.rpartition('_')[2][:-4]))[-number:]


def pointer(text: Optional[str]) -> Callable[[str], None]:

    def damage(folder: str) -> None:
        path = osp.join(folder, 'run', 'last_checkpoint')
        os.remove(path)
        if text is not None:
            write(text)(path)

    return damage


def damaged(what: str, number: int = 1) -> Callable[[str], None]:
    """The newest checkpoints, each with a damage of ``DAMAGES``."""

    def damage(folder: str) -> None:
        for path in last_of(folder, number):
            good = f'{path}_'
            os.rename(path, good)
            DAMAGES[what](good, path, good)
            os.remove(good)

    return damage


def leftovers(folder: str) -> None:
    for name in ('.iter_9.pth.partial', '.last_checkpoint.partial'):
        write('half')(osp.join(folder, 'run', name))


def no_logs(folder: str) -> None:
    for path in glob(osp.join(folder, 'run', '2*')):
        shutil.rmtree(path)


GONE = {
    'the pointer to the last': pointer(None),
    'what the pointer says': pointer(''),
    'the sense of the pointer': pointer('\x00\xff?'),
    'what the pointer points to': pointer('iter_99.pth'),
    'the way of the pointer': pointer('/nowhere/else/iter_3.pth'),
    'the last checkpoint': damaged('missing'),
    'half of the last': damaged('truncated in the middle'),
    'the end of the last': damaged('truncated at its end'),
    'all of the last': damaged('empty'),
    'the last, NaN in it': damaged('with NaN'),
    'the last, objects in it': damaged('with objects'),
    'the training in the last': damaged('of texts'),
    'the last two': damaged('truncated in the middle', 2),
    'nothing, but halves are left': leftovers,
    'the logs': no_logs,
}


def gone_trials(stage: Stage) -> Iterator[Trial]:
    for what, damage in GONE.items():

        def play(folder: str, damage=damage) -> Outcome:
            shutil.copytree(stage.half, osp.join(folder, 'run'))
            damage(folder)
            ended = call(
                'train',
                arguments(stage, 'train', '--resume', config=stage.long),
                folder,
            )
            if ended.code:
                return judged(ended, '')._replace(verdict='lost')
            different = unlike(folder, stage)
            return (
                Outcome('lost', different)
                if different
                else Outcome('as it should')
            )

        yield Trial('files that are gone', what, play)
    for what in ('empty', 'missing', 'with NaN'):

        def prepare(folder: str, what=what) -> None:
            shutil.copytree(stage.half, osp.join(folder, 'run'))
            damaged(what, 9)(folder)

        yield Trial(
            'files that are gone',
            f'all, {what}',
            refused(
                'train',
                arguments(stage, 'train', '--resume', config=stage.long),
                'whole|deleted',
                prepare,
            ),
        )


# ------------------------------------------------- pictures, while it trains
def while_training(
    stage: Stage, harm: Callable[[str], Any], says: Optional[str]
) -> Callable[[str], Outcome]:

    def play(folder: str) -> Outcome:
        paint(osp.join(folder, 'p'), number=110)
        options = folder_arguments('p', which='train val')
        options[options.index('train_cfg.max_iters=1')] = (
            'train_cfg.max_iters=30'
        )
        options[options.index('train_dataloader.batch_size=2')] = (
            'train_dataloader.batch_size=16'
        )
        options[options.index('train_cfg.val_interval=1')] = (
            'train_cfg.val_interval=30'
        )
        process = Process('train', options, folder)
        after(1)(process)
        harm(osp.join(folder, 'p'))
        ended = process.ended()
        if broken(folder) or not saved(folder):
            return Outcome('lost', broken(folder))
        if says is not None:
            return judged(ended, says)
        if ended.code:
            return judged(ended, '')._replace(verdict='unclear')
        return Outcome('as it should')

    return play


def break_many(folder: str) -> None:
    for index in range(110):
        spoil(f'cat/{index}.png', 'no picture any more')(folder)


def picture_trials(stage: Stage) -> Iterator[Trial]:
    for what, harm, says in (
        ('one breaks', spoil('cat/7.png', 'broken'), None),
        ('one is cut', spoil('dog/7.png', cut_at=0.5), None),
        ('one is deleted', lambda f: os.remove(f'{f}/cat/8.png'), None),
        ('a class of them breaks', break_many, 'pictures|class'),
        (
            'a class of them is deleted',
            lambda f: shutil.rmtree(f'{f}/dog'),
            'pictures|class',
        ),
        ('all are moved', lambda f: os.rename(f, f'{f}_'), 'pictures|class'),
    ):
        yield Trial(
            'pictures while it trains', what, while_training(stage, harm, says)
        )


# ------------------------------------------------------- two in one directory
def two_trials(stage: Stage) -> Iterator[Trial]:
    for more in ((), ('--resume',), ('--overwrite',)):

        def strike(process: Process, more=more) -> None:
            after(2)(process)
            process.second = judged(
                call(
                    'train',
                    arguments(stage, 'train', *more, config=stage.long),
                    process.folder + '/.second',
                    inside=lambda: os.chdir('..'),
                ),
                'another training',
            )

        def play(folder: str, strike=strike) -> Outcome:
            os.mkdir(osp.join(folder, '.second'))
            seen = []

            def noted(process: Process) -> None:
                strike(process)
                seen.append(process.second)

            outcome = survived(stage, noted, code=0)(folder)
            return seen[0] if outcome.verdict == 'as it should' else outcome

        yield Trial(
            'two in one directory', ' '.join(['a second training', *more]), play
        )
    for tool, made in (
        ('export', 'out/summary.json'),
        ('sample', 'out/pictures.json'),
    ):

        def beside(folder: str, tool=tool, made=made) -> Outcome:

            def strike(process: Process) -> None:
                after(3)(process)
                call(
                    tool,
                    arguments(
                        stage,
                        tool,
                        config=stage.long,
                        checkpoint='run/iter_3.pth',
                    ),
                    folder,
                )

            outcome = survived(stage, strike, code=0)(folder)
            if not osp.isfile(osp.join(folder, made)):
                return Outcome('unclear', f'{tool} beside it failed')
            return outcome

        yield Trial('two in one directory', f'{tool} while it trains', beside)


# ------------------------------------------------------------------ divergence
def poisoned(change: Callable[[Any, dict], Any], step: int = 5) -> Callable:
    """Inside of the training's process, something is done after a step."""

    def inside() -> None:
        from ppcd_mmagic.models import PPCDGAN

        whole, count = PPCDGAN.train_step, itertools.count(1)

        def train_step(self, data, optim_wrapper):
            losses = whole(self, data, optim_wrapper)
            if next(count) == step:
                change((self, optim_wrapper), losses)
            return losses

        PPCDGAN.train_step = train_step

    return inside


def weight(value: float, part: str) -> Callable:

    def change(training: tuple, losses: dict) -> None:
        next(getattr(training[0], part).parameters()).data.view(-1)[0] = value

    return change


def moment_of_adam(training: tuple, losses: dict) -> None:
    state = training[1]['generator'].optimizer.state
    next(iter(state.values()))['exp_avg'].view(-1)[0] = float('nan')


def a_loss(training: tuple, losses: dict) -> None:
    name = next(key for key in losses if 'loss' in key)
    losses[name] = losses[name] * float('nan')


def divergence_trials(stage: Stage) -> Iterator[Trial]:
    nothing = after(LENGTH)
    for what, change in {
        'a weight of the generator is NaN': weight(float('nan'), 'generator'),
        'a weight of the generator is infinite': weight(
            float('inf'), 'generator'
        ),
        'a weight of the discriminator is NaN': weight(
            float('nan'), 'discriminator'
        ),
        'a weight of the average is NaN': weight(float('nan'), 'generator_ema'),
        "the optimizer's state is NaN": moment_of_adam,
        'a loss is NaN': a_loss,
    }.items():
        yield Trial(
            'divergence',
            what,
            survived(stage, nothing, 'diverged', inside=poisoned(change)),
        )
    for what, option in {
        'a rate of 1e30': 'optim_wrapper.generator.optimizer.lr=1e30',
        'a rate that is NaN': 'optim_wrapper.generator.optimizer.lr=nan',
        'a weight of a loss that is NaN': 'model.pruning_loss.loss_weight=nan',
        'an infinite one': 'model.distillation_loss.loss_weight=inf',
    }.items():
        yield Trial(
            'divergence',
            what,
            refused(
                'train',
                arguments(
                    stage, 'train', '--cfg-options', option, config=stage.long
                ),
                'diverged|lr|learning rate',
            ),
        )


# ----------------------------------------------------------- exports, tables
def export_trials(stage: Stage) -> Iterator[Trial]:
    """An export that is ended: what is there is whole, old or new."""
    for number, before in itertools.product(
        (signal.SIGKILL, signal.SIGTERM, signal.SIGINT), (False, True)
    ):

        def play(folder: str, number=number, before=before) -> Outcome:
            out = osp.join(folder, 'out')
            if before:
                shutil.copytree(stage.other_export, out)
            old = contents(out)
            given = arguments(
                stage, 'export', '--format', 'mmagic', 'torch_export'
            )
            process = Process('export', given, folder)
            if when_there('.out-*/generator.pth')(process):
                process.send(number)
            ended = process.ended()
            if 'Traceback (most' in ended.errors:
                return Outcome('traceback', ended.errors[-300:])
            if contents(out) != old and not osp.isfile(
                osp.join(out, 'summary.json')
            ):
                return Outcome('lost', 'half an export is there')
            again = call('export', given, folder)
            whole = osp.isfile(osp.join(out, 'generator.pt2'))
            left = glob(osp.join(folder, '.out-*'))
            if again.code or not whole:
                return Outcome('lost', judged(again, '').why)
            return (
                Outcome('unclear', f'left over: {left}')
                if left and number != signal.SIGKILL
                else Outcome('as it should')
            )

        yield Trial(
            'exports that are ended',
            f'{number.name}' + ', an older one there' * before,
            play,
        )


def table_trials(stage: Stage) -> Iterator[Trial]:
    """A table whose second run fails, and one that is stopped."""
    given = [
        '--root',
        'out',
        '--seeds',
        '0',
        '--max-iters',
        '6',
        '--jobs',
        '2',
        '--cfg-options',
        f'model.teacher.checkpoint={stage.teacher}',
        'train_dataloader.batch_size=4',
        'test_evaluator.metrics=[]',
        'val_evaluator.metrics=[]',
    ]
    for number in (signal.SIGTERM, signal.SIGINT):

        def play(folder: str, number=number) -> Outcome:
            process = Process('table_a', given, folder)
            when_there('out/*/train.log')(process)
            process.send(number)
            ended = process.ended()
            alive = [
                path
                for path in glob('/proc/[0-9]*/cwd')
                if _leads_to(path, folder)
            ]
            if alive:
                return Outcome('lost', f'still running: {alive}')
            if 'Traceback (most' in ended.errors:
                return Outcome('traceback', ended.errors[-300:])
            return (
                Outcome('as it should')
                if ended.code == 128 + number
                else Outcome('unclear', f'code {ended.code}: {ended.errors}')
            )

        yield Trial('tables', f'{number.name} while two of it train', play)


def _leads_to(link: str, folder: str) -> bool:
    try:
        return os.readlink(link).startswith(folder)
    except OSError:
        return False


ACCIDENTS = [
    signal_trials,
    full_disk_trials,
    read_only_trials,
    gone_trials,
    picture_trials,
    two_trials,
    divergence_trials,
    export_trials,
    table_trials,
]
