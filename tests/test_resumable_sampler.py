"""A resumed training finds its place without reading what lies before it."""

from itertools import islice

import pytest
import torch
from runs import tiny_runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.datasets import (
    DigitsDataset,
    ResumableSampler,
    resumable_sampler,
)


def take(sampler, count):
    return list(islice(iter(sampler), count))


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('start', [0, 1, 9, 10, 11, 137])
def test_it_goes_on_as_if_it_had_never_stopped(shuffle, start):
    whole = take(ResumableSampler(range(10), shuffle, seed=3), start + 40)
    sampler = ResumableSampler(range(10), shuffle, seed=3)
    sampler.start_at(start)
    assert take(sampler, 40) == whole[start:]


def test_every_pass_has_each_sample_once_in_an_order_of_its_own():
    indices = take(ResumableSampler(range(50), seed=0), 150)
    passes = [indices[i : i + 50] for i in (0, 50, 100)]
    assert all(sorted(one) == list(range(50)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_seeds_differ_in_all_their_passes():
    """Seed 0's second pass must not be seed 1's first."""
    passes = set()
    for seed in range(3):
        indices = take(ResumableSampler(range(50), seed=seed), 150)
        passes |= {tuple(indices[i : i + 50]) for i in (0, 50, 100)}
    assert len(passes) == 9


@pytest.mark.parametrize('world_size', [2, 3])
@pytest.mark.parametrize('start', [0, 7])
def test_processes_share_each_pass(monkeypatch, world_size, start):

    def indices(rank):
        monkeypatch.setattr(
            resumable_sampler, 'get_dist_info', lambda: (rank, world_size)
        )
        sampler = ResumableSampler(range(11), seed=5)
        sampler.start_at(start)
        return take(sampler, 33)

    together = [
        i for step in zip(*map(indices, range(world_size))) for i in step
    ]
    monkeypatch.undo()
    alone = take(ResumableSampler(range(11), seed=5), (start + 33) * world_size)
    assert together == alone[start * world_size :]


def test_a_million_steps_of_256_are_skipped_without_drawing_them(monkeypatch):
    drawn, randperm = [], torch.randperm

    def counted(*args, **kwargs):
        drawn.append(args)
        return randperm(*args, **kwargs)

    monkeypatch.setattr(torch, 'randperm', counted)
    sampler = ResumableSampler(range(1000), seed=0)
    sampler.start_at(256 * 1_000_000)
    take(sampler, 256)
    assert len(drawn) == 1


def test_without_data_there_is_nothing_to_sample():
    with pytest.raises(PPCDError, match='training data is empty'):
        ResumableSampler([])


def batches_of(work_dir, monkeypatch, **options):
    """Pictures of each step, and how many were read."""
    read, seen = [], []
    original = DigitsDataset.prepare_data
    monkeypatch.setattr(
        DigitsDataset,
        'prepare_data',
        lambda self, index: (read.append(index), original(self, index))[1],
    )
    runner = tiny_runner(work_dir, **options)
    train_step = runner.model.train_step

    def watched(data, optim_wrapper):
        seen.append(
            torch.stack([s.gt_img for s in data['data_samples']])
            if isinstance(data['data_samples'], list)
            else data['data_samples'].gt_img.clone()
        )
        return train_step(data, optim_wrapper)

    runner.model.train_step = watched
    runner.train()
    return seen, read


def test_a_resumed_training_sees_the_batches_of_one_that_was_not(
    tmp_path, monkeypatch
):
    whole, _ = batches_of(tmp_path / 'whole', monkeypatch)
    rest, read = batches_of(
        tmp_path / 'rest',
        monkeypatch,
        load_from=str(tmp_path / 'whole' / 'iter_4.pth'),
        resume=True,
    )
    assert len(whole) == 6 and len(rest) == 2
    for a, b in zip(whole[4:], rest):
        assert torch.equal(a, b)
    assert len(read) == 2 * 4, 'only what was trained on was read'
