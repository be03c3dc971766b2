"""A training on a GPU, as far as devices go."""

from unittest.mock import patch

import pytest
import torch
from pretended_gpu import CUDA, PretendedGpu
from runs import tiny_runner

from ppcd_mmagic import PPCDError
from ppcd_mmagic.generators import generators_of
from ppcd_mmagic.models import MaskL1Loss


def train_on_gpu(work_dir):
    """Two iterations with all hooks, masks pruned and a checkpoint."""
    runner = tiny_runner(
        work_dir, train_cfg__max_iters=2, param_scheduler__end=4
    )
    with (
        PretendedGpu(),
        # it is asked for the layout that is fastest there
        patch('torch.cuda.get_device_capability', return_value=(8, 0)),
    ):
        runner.model.to('cuda')
        runner.train()
        return [
            parameter.device
            for generator in generators_of(runner.model)
            for module in generator.both
            for parameter in module.parameters()
        ]


@pytest.mark.needs_torch('2.6')
def test_a_training_keeps_to_its_device(tmp_path):
    devices = train_on_gpu(tmp_path)
    assert len(devices) > 40 and set(devices) == {CUDA}


@pytest.mark.needs_torch('2.6')
def test_a_tensor_of_another_device_is_found(tmp_path, monkeypatch):
    forward = MaskL1Loss.forward

    def planted(self, masks):
        return forward(self, masks) * torch.ones(1)

    monkeypatch.setattr(MaskL1Loss, 'forward', planted)
    with pytest.raises(PPCDError, match='cuda and cpu meet in mul'):
        train_on_gpu(tmp_path)
