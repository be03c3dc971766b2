"""Training, in a real runner and through the command line."""

import os
import os.path as osp
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from runs import checkpoint_of, hooked_runner, tiny_runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.export import build_student
from ppcd_mmagic.registry import HOOKS, MODELS

DIGITS = 'configs/ppcd_gan/ppcd_digits_16_alpha06.py'
SMALL = [
    'model.generator.base_channels=4',
    'train_cfg.max_iters=12',
    'train_cfg.val_interval=100',
    'val_evaluator.metrics=[]',
    'train_dataloader.batch_size=8',
    'param_scheduler.begin=6',
    'param_scheduler.end=12',
    'default_hooks.checkpoint.interval=4',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'default_hooks.visualization.interval=5',
    'default_hooks.mask_binarization.begin=1',
    'default_hooks.mask_binarization.end=10',
]
# one thread: the same sums in the same order
ENV = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')


def train(
    work_dir, *arguments, config=DIGITS, options=SMALL, launch=(), **variables
):
    command = [
        sys.executable,
        *launch,
        'tools/train.py',
        config,
        '--work-dir',
        str(work_dir),
        *arguments,
        '--cfg-options',
        *options,
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(ENV, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    out, _ = process.communicate(timeout=600)
    return process.returncode, out


def load(work_dir, name='iter_12.pth'):
    return torch.load(osp.join(work_dir, name), weights_only=False)


def wait_for_iteration_8(work_dir, process):
    checkpoint, last = work_dir / 'iter_8.pth', work_dir / 'last_checkpoint'
    until = time.time() + 300
    while (
        process.poll() is None
        and time.time() < until
        and not (checkpoint.exists() and 'iter_8' in last.read_text())
    ):
        time.sleep(0.01)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, 'it ended before the kill'


def assert_same_run(a, b):
    assert a['state_dict'].keys() == b['state_dict'].keys()
    for key, value in a['state_dict'].items():
        assert torch.equal(value, b['state_dict'][key]), key
    for name in ('generator', 'discriminator'):
        first, second = (x['optimizer'][name]['state'] for x in (a, b))
        for index in first:
            assert torch.equal(
                first[index]['exp_avg_sq'], second[index]['exp_avg_sq']
            )


def test_what_fails_in_the_first_iteration_is_laid_to_the_config(tmp_path):
    runner = tiny_runner(
        tmp_path, model__loss_config__disc_auxiliary_loss__norm_mode='nonsense'
    )
    with pytest.raises(PPCDError, match='first iteration fails.*nonsense'):
        runner.train()
    (log,) = tmp_path.rglob('*.log')
    assert 'Traceback' in log.read_text()
    assert 'gan_loss.py' in log.read_text()


class Listener(Hook):
    """Notes what generator and discriminator are called with in the steps of
    the training, and not what other hooks call them with."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.noises, self.images, self.listens = [], [], False

    def before_train_iter(self, runner, *args, **kwargs):
        self.listens = True

    def after_train_iter(self, runner, *args, **kwargs):
        self.listens = False

    def before_train(self, runner):
        runner.model.generator.register_forward_pre_hook(self.generator)
        runner.model.discriminator.register_forward_pre_hook(self.discriminator)

    def generator(self, _, args):
        if self.listens:
            self.noises.append((torch.is_grad_enabled(), args[0].clone()))

    def discriminator(self, _, args):
        if self.listens:
            self.images.append(args[0].detach().clone())


def listened(work_dir, *hooks, iterations=6, **options):
    runner = hooked_runner(work_dir, *hooks, iterations=iterations, **options)
    listener = Listener()
    runner.register_hook(listener)
    runner.train()
    return listener


MASKS = dict(
    type='MaskBinarizationHook', alpha=0.6, schedule='linear', begin=1, end=5
)
SEARCH = dict(type='OnceForAllHook', budget=0.9)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Six iterations, and what was heard during them."""
    work_dir = tmp_path_factory.mktemp('whole')
    return work_dir, listened(work_dir, MASKS)


def test_each_step_of_each_iteration_has_noise_of_its_own(whole):
    _, listener = whole
    assert len(listener.noises) == 12
    assert len({float(noise[0, 0]) for _, noise in listener.noises}) == 12
    everything = torch.cat([noise for _, noise in listener.noises])
    assert everything.shape == (48, 24)
    assert abs(float(everything.mean())) < 0.15
    assert float(everything.std()) == pytest.approx(1, abs=0.1)


def test_real_images_differ_between_iterations(whole):
    """The discriminator is shown fakes, reals, the reals again for R1, and
    the fakes of the generator's step."""
    _, listener = whole
    assert len(listener.images) == 24
    for index, image in enumerate(listener.images):
        grey = torch.equal(image[:, 0], image[:, 1])
        assert grey is (index % 4 in (1, 2)), 'digits are grey'
    reals = listener.images[1::4]
    assert len({float(images.sum()) for images in reals}) == 6
    assert all(real.min() == -1 and real.max() > 0.9 for real in reals)
    for real, again in zip(reals, listener.images[2::4]):
        assert torch.equal(real, again)


def test_each_network_takes_one_step_an_iteration(whole):
    work_dir, listener = whole
    assert [training for training, _ in listener.noises] == [False, True] * 6
    assert steps_of(work_dir, 6) == {'generator': {6}, 'discriminator': {6}}


def steps_of(work_dir, iteration):
    states = checkpoint_of(work_dir, iteration)['optimizer']
    return {
        name: {int(state['step']) for state in states[name]['state'].values()}
        for name in ('generator', 'discriminator')
    }


def test_discriminator_may_take_several_steps_for_one_of_the_generator(
    tmp_path,
):
    listener = listened(tmp_path, **{'model__discriminator_steps': 3})
    assert [training for training, _ in listener.noises] == [
        False,
        False,
        False,
        True,
    ] * 2
    assert steps_of(tmp_path, 6) == {'generator': {2}, 'discriminator': {6}}


@pytest.mark.parametrize('hook', [MASKS, dict(type='ShrinkHook', interval=2)])
def test_resumed_run_sees_the_noise_and_reaches_the_weights_of_the_whole(
    whole, tmp_path, hook
):
    work_dir, listener = whole
    hooks = [MASKS]
    if hook is not MASKS:
        hooks.append(hook)
        work_dir = tmp_path / 'whole'
        listener = listened(work_dir, *hooks)
    resumed = listened(
        tmp_path / 'resumed',
        *hooks,
        resume=True,
        load_from=f'{work_dir}/iter_3.pth',
    )
    expected = listener.noises[6:]
    assert len(resumed.noises) == len(expected) == 6
    for (_, noise), (_, whole_noise) in zip(resumed.noises, expected):
        assert torch.equal(noise, whole_noise)
    assert_same_run(
        checkpoint_of(work_dir, 6), checkpoint_of(tmp_path / 'resumed', 6)
    )


class Widths(Hook):
    """Notes the sub-network that each iteration trains."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.seen.append(
            [
                int((~mask.pruned).sum())
                for _, mask in named_masks(runner.model.generator)
            ]
        )


def trained_widths(work_dir, **options):
    measured = dict(
        type='SWD', fake_nums=4, image_shape=(3, 16, 16), prefix='domain'
    )
    options = {
        'val_evaluator.metrics': [measured],
        'train_cfg.val_begin': 100,  # never
        **options,
    }
    runner = hooked_runner(work_dir, SEARCH, iterations=6, **options)
    for hook in runner.hooks:
        if type(hook) is HOOKS.get(SEARCH['type']):
            hook.after_train = lambda runner: None  # nothing to choose by
    widths = Widths()
    runner.register_hook(widths)
    runner.train()
    return widths.seen


def test_resumed_search_trains_the_sub_networks_of_the_whole(tmp_path):
    whole = trained_widths(tmp_path / 'whole')
    resumed = trained_widths(
        tmp_path / 'resumed',
        resume=True,
        load_from=f'{tmp_path}/whole/iter_3.pth',
    )
    assert len(set(map(tuple, whole))) == 6
    assert resumed == whole[3:]


@pytest.mark.slow
def test_the_trained_student_has_what_an_untrained_one_lacks(trained_student):
    """Tests that stand on it would pass for nothing if it did not."""
    student = build_student(
        Config.fromfile(trained_student.config), trained_student.checkpoint
    )
    masks = [
        (mask.channels, mask.num_pruned) for _, mask in named_masks(student)
    ]
    assert masks == [(16, 9)] * 3 + [(8, 4)] * 3
    variances = torch.cat(
        [
            value
            for key, value in student.named_buffers()
            if key.endswith('running_var')
        ]
    )
    assert (variances < 1e-9).any() and (variances > 1e-2).any()
    noise = torch.from_numpy(np.random.RandomState(0).randn(1, 24)).float()
    with torch.no_grad():
        images = student(noise.expand(10, -1), label=torch.arange(10))
    assert min(torch.pdist(images.flatten(1))) > 0.1


@pytest.mark.slow
def test_killed_and_resumed_run_equals_the_uninterrupted_one(tmp_path):
    whole = train(tmp_path / 'whole')
    code, out = finish(whole)
    assert code == 0, out

    killed = train(tmp_path / 'killed')
    wait_for_iteration_8(tmp_path / 'killed', killed)
    kill(killed)
    assert not (tmp_path / 'killed' / 'iter_12.pth').exists()

    code, out = finish(train(tmp_path / 'killed', '--resume'))
    assert code == 0, out
    assert 'resumed' in out
    a, b = load(tmp_path / 'whole'), load(tmp_path / 'killed')
    assert_same_run(a, b)
    pruned = [k for k in a['state_dict'] if k.endswith('mask.pruned')]
    assert len(pruned) == 12, 'six masks, and those of the EMA copy'
    for key in pruned:
        mask = a['state_dict'][key]
        assert int(mask.sum()) == int(0.6 * len(mask)), key
    assert not any('teacher' in key for key in a['state_dict'])


@pytest.mark.slow
def test_resume_without_anything_to_resume_starts_from_load_from(tmp_path):
    code, out = finish(train(tmp_path / 'first'))
    assert code == 0, out
    options = SMALL + [
        f'load_from={tmp_path}/first/iter_12.pth',
        'train_cfg.max_iters=4',
        'optim_wrapper.generator.optimizer.lr=0',
        'default_hooks.mask_binarization.end=4',
    ]
    code, out = finish(train(tmp_path / 'second', '--resume', options=options))
    assert code == 0, out
    first, second = (
        load(tmp_path / 'first'),
        load(tmp_path / 'second', 'iter_4.pth'),
    )
    name = 'generator.conv_blocks.0.conv_1.conv.weight_orig'
    assert torch.equal(first['state_dict'][name], second['state_dict'][name])


@pytest.fixture
def shrinking(tmp_path):
    """A config that removes what is pruned."""
    config = tmp_path / 'shrinking.py'
    config.write_text(
        f"_base_ = '{ROOT}/{DIGITS}'\n"
        "custom_hooks = [dict(type='ShrinkHook', interval=3)]\n"
    )
    return str(config)


@pytest.mark.slow
def test_shrinking_run_is_resumed_and_exported(tmp_path, shrinking):
    code, out = finish(train(tmp_path / 'whole', config=shrinking))
    assert code == 0, out
    code, out = finish(
        train(
            tmp_path / 'resumed',
            '--resume',
            str(tmp_path / 'whole' / 'iter_8.pth'),
            config=shrinking,
        )
    )
    assert code == 0, out
    a, b = load(tmp_path / 'whole'), load(tmp_path / 'resumed')
    assert_same_run(a, b)
    name = 'generator.conv_blocks.0.conv_1.conv.weight_orig'
    widths = [
        len(load(tmp_path / 'whole', f'iter_{i}.pth')['state_dict'][name])
        for i in (4, 8, 12)
    ]
    # of 8 channels floor(8 * 0.6 * (1 - (7/9)^3)) = 2 are pruned at iteration
    # 3, when the hook runs first, and the 4 that alpha allows at iteration 6
    assert widths == [6, 4, 4]
    export = subprocess.run(
        [
            sys.executable,
            'tools/export.py',
            shrinking,
            str(tmp_path / 'resumed' / 'iter_12.pth'),
            '--cfg-options',
            'model.generator.base_channels=4',
        ],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert export.returncode == 0, export.stderr
    state = torch.load(tmp_path / 'resumed' / 'export' / 'generator.pth')
    shapes = [
        tuple(
            state['state_dict'][
                f'generator.conv_blocks.{block}.conv_{conv}.conv.weight'
            ].shape[:2]
        )
        for block, conv in ((0, 1), (0, 2), (2, 1), (2, 2))
    ]
    # 4 of 8 and 2 of 4 are left behind conv_1; what reads and writes the
    # stream has what the two masks of the stream have not both pruned
    stream = shapes[2][1]
    assert shapes == [(4, 8), (stream, 4), (2, stream), (shapes[3][0], 2)]
    assert 4 <= stream <= 8 and 2 <= shapes[3][0] <= 4


def two_ranks(work_dir, *arguments, config, port):
    """Both processes of a training, started without a launcher."""
    return [
        train(
            work_dir,
            '--launcher',
            'pytorch',
            *arguments,
            config=config,
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            WORLD_SIZE='2',
            RANK=rank,
            LOCAL_RANK=rank,
        )
        for rank in ('0', '1')
    ]


@pytest.mark.slow
def test_two_ranks_shrink_resume_and_end_when_one_is_killed(
    tmp_path, shrinking
):
    launch = (
        '-m',
        'torch.distributed.run',
        '--nproc_per_node',
        '2',
        '--master_port',
        '29511',
    )
    code, out = finish(
        train(
            tmp_path / 'whole',
            '--launcher',
            'pytorch',
            config=shrinking,
            launch=launch,
        )
    )
    assert code == 0, out
    state = load(tmp_path / 'whole')['state_dict']
    # as of one rank
    assert [
        len(state[f'generator.conv_blocks.{block}.conv_1.conv.mask.pruned'])
        for block in (0, 2)
    ] == [4, 2]
    resumed = tmp_path / 'resumed'
    first, second = two_ranks(
        resumed,
        '--resume',
        str(tmp_path / 'whole' / 'iter_4.pth'),
        config=shrinking,
        port='29512',
    )
    wait_for_iteration_8(resumed, second)
    kill(second)
    code, out = finish(first)
    assert code == 2, out
    errors = [line for line in out.splitlines() if 'error:' in line]
    assert len(errors) == 1 and 'Traceback' not in out, out
    assert 'Another process of this training has ended' in errors[0]
    assert not (resumed / 'iter_12.pth').exists()
    assert_same_run(
        load(tmp_path / 'whole', 'iter_8.pth'), load(resumed, 'iter_8.pth')
    )


@pytest.fixture
def folder(tmp_path):
    for label in range(4):
        path = tmp_path / 'imagenet' / 'train' / f'n0{label}'
        path.mkdir(parents=True)
        for index in range(3):
            picture = np.random.randint(0, 255, (150, 180, 3), np.uint8)
            cv2.imwrite(str(path / f'{index}.JPEG'), picture)
    return tmp_path / 'imagenet'


NARROW = [
    'model.num_classes=4',
    'model.generator.num_classes=4',
    'model.discriminator.num_classes=4',
    'model.generator.base_channels=4',
    'model.discriminator.base_channels=8',
    'model.teacher.generator.num_classes=4',
    'model.teacher.generator.base_channels=4',
    'val_evaluator.metrics=[]',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=1',
    'val_dataloader.num_workers=1',
    'default_hooks.checkpoint.save_best=None',
    'default_hooks.checkpoint.rule=None',
    'train_cfg.max_iters=2',
    'default_hooks.visualization.interval=1',
    'default_hooks.visualization.n_samples=2',
    'default_hooks.mask_binarization.begin=0',
    'default_hooks.mask_binarization.end=2',
    'default_hooks.mask_binarization.interval=1',
    'default_hooks.logger.interval=1',
]


@pytest.mark.slow
def test_imagenet_config_trains_on_a_folder_under_a_checkpoint(
    folder, tmp_path
):
    """Full depth and resolution; only the width is that of a test."""
    teacher = MODELS.build(
        dict(
            type='BigGANGenerator',
            output_scale=128,
            noise_size=120,
            num_classes=4,
            base_channels=4,
            auto_sync_bn=False,
            init_cfg=dict(type='N02'),
        )
    )
    state = {f'generator_ema.{k}': v for k, v in teacher.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'teacher.pth')
    options = NARROW + [
        f'train_dataloader.dataset.data_root={folder}',
        f'val_dataloader.dataset.data_root={folder}',
        f'model.teacher.checkpoint={tmp_path}/teacher.pth',
    ]
    code, out = finish(
        train(
            tmp_path / 'run',
            config='configs/ppcd_biggan_128_alpha06.py',
            options=options,
        )
    )
    assert code == 0, out
    lines = [line for line in out.splitlines() if 'Iter(train)' in line]
    assert len(lines) == 2
    for name in ('loss_cd', 'loss_pp', 'loss_adv'):
        values = [
            float(re.search(rf'{name}: (\S+)', line)[1]) for line in lines
        ]
        assert np.isfinite(values).all() and np.all(values), name
    # of masks of 64, 32, 16, 8 and 4, three of each: 7/8 of 0.6 of them make
    # 33, 16, 8, 4 and 2 of the 124, and 0.6 makes 38, 19, 9, 4 and 2
    sparsities = [
        float(re.search(r'sparsity: (\S+)', line)[1]) for line in lines
    ]
    assert sparsities == [0.5081, 0.5806]
    pictures = list((tmp_path / 'run').rglob('*.png'))
    assert pictures and cv2.imread(str(pictures[0])).shape[0] >= 128


def test_missing_files_are_one_line_each(tmp_path):
    code, out = finish(
        train(
            tmp_path,
            config='configs/ppcd_biggan_128_alpha06.py',
            options=[
                f'train_dataloader.dataset.data_root={tmp_path}/none',
                f'val_dataloader.dataset.data_root={tmp_path}/none',
                'model.teacher.checkpoint=none.pth',
                'val_evaluator.metrics=[]',
            ],
        )
    )
    lines = [line for line in out.splitlines() if line.strip()]
    assert code == 2
    assert [line.split(':')[0] for line in lines] == ['error', 'error']
    assert 'teacher checkpoint' in lines[0] and 'training data' in lines[1]


def test_bad_alpha_is_one_line(tmp_path):
    code, out = finish(
        train(
            tmp_path,
            options=SMALL + ['default_hooks.mask_binarization.alpha=1.5'],
        )
    )
    assert code == 2
    errors = [line for line in out.splitlines() if 'error:' in line]
    assert len(errors) == 1 and 'alpha=1.5 must be in [0, 1)' in errors[0]
    assert 'Traceback' not in out
