"""Training in the channels_last layout: the same training, laid out."""

import pytest
import torch
from mmengine.hooks import Hook
from runs import hooked_runner, logged_scalars

CHANNELS_LAST = dict(type='ChannelsLastHook')
BINARIZATION = dict(type='MaskBinarizationHook', alpha=0.6, schedule='cubic')
SHRINKING = dict(type='ShrinkHook', interval=3)


def lies_last(weight):
    return weight.is_contiguous(memory_format=torch.channels_last)


class Witness(Hook):
    """What convolutions are given, once the layout has been chosen."""

    priority = 'LOWEST'

    def __init__(self):
        self.laid = []

    def before_train_iter(self, runner, *args, **kwargs):
        weights = [w for w in runner.model.parameters() if w.dim() == 4]
        self.laid.append((len(weights), all(map(lies_last, weights))))


def trained(work_dir, *hooks, **settings):
    runner = hooked_runner(work_dir, *hooks, **settings)
    runner.register_hook(witness := Witness())
    runner.train()
    return runner, witness.laid


def test_it_is_the_same_training(tmp_path):
    """Up to rounding: the losses of the first steps."""
    logs = []
    for name, hooks in (('usual', []), ('last', [CHANNELS_LAST])):
        _, laid = trained(tmp_path / name, *hooks, iterations=4)
        assert len(laid) == 4 and laid[0][0] > 20
        assert all(lies == (name == 'last') for _, lies in laid)
        logs.append(
            [
                {key: value for key, value in line.items() if 'loss' in key}
                for line in logged_scalars(tmp_path / name)
                if 'loss_adv' in line
            ]
        )
    usual, last = logs
    assert len(usual) == 4 and len(usual[0]) > 4
    for one, other in zip(usual, last):
        assert other == pytest.approx(one, rel=1e-3)


def test_what_was_cut_is_laid_out_again(tmp_path):
    runner, laid = trained(tmp_path, BINARIZATION, SHRINKING, CHANNELS_LAST)
    assert len(laid) == 8 and all(lies for _, lies in laid)
    widths = {
        w.shape[0] for w in runner.model.generator.parameters() if w.dim() == 4
    } - {3}  # but for the image
    assert min(widths) < 5, 'nothing was cut'


def test_a_run_goes_on_exactly(tmp_path):
    runner, _ = trained(tmp_path, CHANNELS_LAST, iterations=4)
    resumed, _ = trained(
        tmp_path,
        CHANNELS_LAST,
        iterations=4,
        load_from=str(tmp_path / 'iter_2.pth'),
        resume=True,
    )
    expected = runner.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
