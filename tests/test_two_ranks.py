"""Two processes of a distributed training against one."""

import os
import random
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
import torch.nn as nn
from conftest import CLASSES, NOISE, SAGAN, build_generator, every_class
from mmagic.structures import DataSample
from mmengine.logging import MMLogger
from mmengine.model import (
    MMDistributedDataParallel,
    MMSeparateDistributedDataParallel,
)
from mmengine.registry import DefaultScope
from shrink_runs import (
    MASKING,
    SHRINKING,
    GanRun,
    Prepared,
    Run,
    adam,
    exported,
)
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.engine import lost_processes_named
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import generators_of
from ppcd_mmagic.registry import HOOKS, MODELS

pytestmark = pytest.mark.slow
WORLD = 2


def own_part(batch):
    """What a process takes of a batch."""
    if not dist.is_initialized():
        return slice(None)
    size = batch // WORLD
    return slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)


def own_samples(images, labels=None):
    part = own_part(len(images))
    sample = DataSample(gt_img=images[part])
    if labels is not None:
        sample.set_gt_label(labels[part])
    return sample


class SharedGan(GanRun):
    """Generator and discriminator in wrappers of their own; every process has
    its part of the pictures, classes and noise."""

    def wrap(self, model):
        # batch statistics are those of a process
        for norm in model.generator.modules():
            if isinstance(norm, _BatchNorm):
                norm.eval()
                norm.train = lambda mode=True, norm=norm: norm
        model.noise_fn = lambda num_batches: torch.randn(6, NOISE)[own_part(6)]
        if dist.is_initialized():
            model = MMSeparateDistributedDataParallel(model)
        return model

    def data(self):
        sample = own_samples(
            torch.rand(6, 3, 16, 16) * 2 - 1, torch.randint(CLASSES, (6,))
        )
        return dict(inputs=sample.gt_img, data_samples=sample)


class SharedEditor(Run):
    """A model in one wrapper, of one optimizer."""

    def __init__(self, *hooks):
        torch.manual_seed(0)
        model = MODELS.build(
            dict(
                type='BaseEditModel',
                generator=dict(
                    type='MaskedGenerator',
                    generator=dict(
                        type='EDSRNet',
                        in_channels=3,
                        out_channels=3,
                        mid_channels=8,
                        num_blocks=2,
                        upscale_factor=2,
                    ),
                    input_shape=(3, 8, 8),
                    tie=True,
                ),
                pixel_loss=dict(type='MSELoss'),
            )
        )
        model.data_preprocessor = Prepared()
        optim_wrapper = adam(model)
        if dist.is_initialized():
            model = MMDistributedDataParallel(model)
        super().__init__(model, optim_wrapper, *hooks)

    def data(self):
        inputs, targets = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 16, 16)
        return dict(
            inputs=inputs[own_part(4)], data_samples=own_samples(targets)
        )


RUNS = dict(gan=lambda *hooks: SharedGan('sagan', *hooks), editor=SharedEditor)


def trained(build, *hooks):
    run = build(*hooks)
    losses = run.train()
    return dict(run.checkpoint(), losses=losses)


def exportable():
    """What a training has come to, and the images of its averaged weights."""
    run = RUNS['gan'](MASKING, SHRINKING)
    run.train()
    return dict(
        run.checkpoint(),
        generator_cfg=run.generator_cfg,
        images=run.images('generator_ema'),
    )


def resumed(build, *hooks):
    run = build(*hooks)
    run.train(8)
    checkpoint, run = run.checkpoint(), build(*hooks)
    run.resume(checkpoint)
    run.train()
    return run.checkpoint()


def own_masks():
    """Masks whose scores say where they were, half of them pruned, each
    process others."""
    run = SharedEditor()
    generator = generators_of(run.model)[0].module
    torch.manual_seed(dist.get_rank())
    for _, mask in named_masks(generator):
        with torch.no_grad():
            mask.weight.copy_(torch.randperm(mask.channels))
    return run, dict(named_masks(generator))


def pruned():
    """The lowest half of the scores of this process, and what was pruned."""
    run, masks = own_masks()
    own = {
        name: (mask.weight < mask.channels // 2).nonzero().flatten()
        for name, mask in masks.items()
    }
    hook = HOOKS.build(dict(MASKING, alpha=0.5, begin=0, end=1))
    hook.before_train(run)
    hook.after_train_iter(run, 0)
    return own, {
        name: mask.pruned.nonzero().flatten() for name, mask in masks.items()
    }


def budgeted():
    """What a budget prunes."""
    run, masks = own_masks()
    hook = HOOKS.build(
        dict(type='MaskBinarizationHook', end=1, budget=dict(multiply_adds=0.5))
    )
    hook.before_run(run)
    hook.before_train(run)
    hook.after_train_iter(run, 0)
    return {name: mask.pruned for name, mask in masks.items()}


def cut():
    """What this process would keep of the masks, and what was kept."""
    run, masks = own_masks()
    for mask in masks.values():
        mask.prune(mask.channels // 2)
        with torch.no_grad():  # scores say where a channel was
            mask.weight.copy_(torch.arange(mask.channels))
    own = {name: mask.weight[~mask.pruned] for name, mask in masks.items()}
    HOOKS.build(dict(SHRINKING, interval=1)).after_train_iter(run, 0)
    return own, {name: mask.weight.detach() for name, mask in masks.items()}


class Search:
    """As much of a runner as a search of sub-networks needs."""

    logger, work_dir = Mock(), ''

    def __init__(self):
        self.model = nn.ModuleDict(dict(generator=build_generator(SAGAN)))
        self.iter, self.max_iters = 0, 5
        self.hook = HOOKS.build(
            dict(type='OnceForAllHook', budget=0.8, candidates=3)
        )
        metrics = [SimpleNamespace(prefix='domain')]
        self.val_loop = SimpleNamespace(
            run=self.validate, evaluator=SimpleNamespace(metrics=metrics)
        )
        self.seen = []
        random.seed(dist.get_rank())
        torch.manual_seed(dist.get_rank())

    def validate(self):
        self.note()
        self.hook.after_val_epoch(self, {'domain/frechet': len(self.seen)})

    def note(self):
        self.seen.append(
            {
                name: buffer.clone()
                for name, buffer in self.model.named_buffers()
                if name.endswith(('pruned', 'running_mean', 'running_var'))
            }
        )

    def save_checkpoint(self, *args, **kwargs):
        self.note()

    def run(self):
        self.hook.before_train(self)
        for iteration in range(self.max_iters):
            self.iter = iteration
            self.hook.before_train_iter(self, iteration)
            self.note()
        self.hook.after_train(self)
        return self.seen


def unanswered():
    """Rank 1 is not there; rank 0 waits for a second."""
    group = dist.new_group(timeout=timedelta(seconds=1))
    dist.barrier()
    try:
        with lost_processes_named():
            if dist.get_rank() == 0:
                dist.all_reduce(torch.ones(1), group=group)
    except PPCDError as error:
        return str(error)


def in_rank(rank, folder):
    MMLogger.get_instance('ranks', log_level='ERROR')
    DefaultScope.get_instance('ranks', scope_name='ppcd_mmagic')
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=WORLD,
    )
    # sums in another order differ by 1e-16
    torch.set_default_dtype(torch.float64)
    seen = dict(
        pruned=pruned(), budgeted=budgeted(), cut=cut(), search=Search().run()
    )
    for name, build in RUNS.items():
        seen[name] = trained(build, MASKING, SHRINKING)
        seen[f'resumed {name}'] = resumed(build, MASKING, SHRINKING)
    seen['exported'] = exportable()
    seen['unanswered'] = unanswered()
    torch.save(seen, f'{folder}/{rank}.pth')
    os._exit(0)  # the group that was not answered would be waited for


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each process has seen."""
    folder = tmp_path_factory.mktemp('ranks')
    torch.multiprocessing.spawn(in_rank, (str(folder),), nprocs=WORLD)
    return [
        torch.load(folder / f'{rank}.pth', weights_only=False)
        for rank in range(WORLD)
    ]


@pytest.fixture(scope='module')
def alone():
    """The same trainings in one process, on whole batches."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
        found = {
            name: trained(build, MASKING, SHRINKING)
            for name, build in RUNS.items()
        }
    yield found
    torch.set_default_dtype(before)


def weights(run, name):
    own = ('weight', 'bias', 'weight_orig', 'gamma', 'pruned')
    return {
        key: value
        for key, value in run[name]['state_dict'].items()
        if key.rpartition('.')[2] in own
    }


@pytest.mark.parametrize('name', RUNS)
def test_two_processes_end_with_one_process_s_result(ranks, alone, name):
    expected = weights(alone, name)
    for rank in ranks:
        found = weights(rank, name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key],
                value,
                rtol=1e-7,
                atol=1e-9,
                msg=lambda text, key=key: f'{key}: {text}',
            )
    losses = torch.stack([rank[name]['losses'] for rank in ranks]).mean(0)
    torch.testing.assert_close(
        losses, alone[name]['losses'], rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize('name', RUNS)
def test_the_trainings_that_were_compared_have_shrunk(ranks, alone, name):
    """And went on between the cuts, each process by pictures of its own."""
    masks = [
        value
        for key, value in weights(alone, name).items()
        if key.endswith('mask.pruned')
    ]
    first = RUNS[name](MASKING)
    built = [
        mask
        for generator in generators_of(first.model)
        for _, mask in named_masks(generator.module)
    ]
    assert sum(map(len, masks)) < 0.8 * len(masks) / len(built) * sum(
        mask.channels for mask in built
    )
    one, two = (rank[name]['losses'] for rank in ranks)
    assert (one != two).any(1).all()


@pytest.mark.parametrize('name', RUNS)
def test_processes_do_not_come_apart(ranks, name):
    one, two = (weights(rank, name) for rank in ranks)
    for key, value in one.items():
        assert torch.equal(value, two[key]), key
    for key, first in moments(ranks[0], name).items():
        assert torch.equal(first, moments(ranks[1], name)[key])


def test_what_two_processes_have_trained_is_exported(ranks, tmp_path):
    run = ranks[0]['exported']
    torch.set_default_dtype(torch.float32)
    export = exported(
        run['state_dict'], run['generator_cfg'], tmp_path / 'run.pth'
    )
    torch.set_default_dtype(torch.float64)
    noise, labels = every_class(2)
    images = export.generator.double()(noise.double(), label=labels)
    torch.testing.assert_close(images, run['images'], rtol=0, atol=1e-3)
    after, before = (export.summary[key] for key in ('after', 'before'))
    assert after['parameters'] < before['parameters']


def moments(rank, name):
    states = rank[name]['optimizer']
    states = states if name == 'gan' else dict(all=states)
    return {
        (part, index): state['exp_avg_sq']
        for part, states in states.items()
        for index, state in states['state'].items()
    }


@pytest.mark.parametrize('name', RUNS)
def test_two_processes_resume_exactly(ranks, name):
    for rank in ranks:
        whole, found = rank[name], rank[f'resumed {name}']
        assert found['state_dict'].keys() == whole['state_dict'].keys()
        for key, value in whole['state_dict'].items():
            assert torch.equal(value, found['state_dict'][key]), key


@pytest.mark.parametrize('what', ['pruned', 'cut'])
def test_every_process_takes_the_masks_of_rank_0(ranks, what):
    (expected, first), (other, second) = (rank[what] for rank in ranks)
    assert any(not torch.equal(expected[name], other[name]) for name in other)
    inner = [name for name in expected if name.endswith('conv1')]
    # what meets in an addition leaves only where both sides are pruned
    compared = expected if what == 'pruned' else inner
    assert inner
    for name in compared:
        assert torch.equal(first[name], expected[name]), name
    for name in expected:
        assert torch.equal(second[name], first[name]), name


def test_every_process_meets_a_budget_by_the_same_masks(ranks):
    one, two = (rank['budgeted'] for rank in ranks)
    assert any(map(torch.any, one.values()))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_every_process_searches_the_sub_networks_of_rank_0(ranks):
    """Five that are trained, three that are validated, and the best; with the
    same statistics."""
    one, two = (rank['search'] for rank in ranks)
    assert len(one) == 5 + 3 + 1
    for first, second in zip(one[5:], two[5:]):
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
    for first, second in zip(one[:5], two[:5]):
        for name, value in first.items():
            if name.endswith('pruned'):
                assert torch.equal(value, second[name]), name


def test_a_process_that_does_not_answer_is_one_line(ranks):
    said, nothing = (rank['unanswered'] for rank in ranks)
    assert nothing is None
    assert 'Another process' in said and '--resume' in said
    assert '\n' not in said
