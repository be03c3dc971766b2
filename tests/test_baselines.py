import ast

import pytest
import torch
from conftest import BIGGAN, ROOT, SAGAN, build_generator, every_class
from mmengine.config import Config
from test_training import finish, train

from ppcd_mmagic.channels import (
    complexity,
    discard_channels,
    link_masks,
    named_masks,
    remaining_complexity,
)
from ppcd_mmagic.export import build_student, export_student
from ppcd_mmagic.generators import example_inputs
from ppcd_mmagic.models import DomainClassifier
from ppcd_mmagic.visualization.interpolation import (
    interpolate_classes,
    interpolate_noises,
    slerp,
)


def test_multiply_adds_of_masks_are_those_of_the_dense_network():
    generator = build_generator(SAGAN)
    inputs = example_inputs(generator, batch=1)
    ours = remaining_complexity(link_masks(generator, inputs))
    plain = discard_channels(generator, inputs)
    assert complexity(plain, inputs) == ours


@pytest.mark.slow
def test_channel_search_leaves_a_network_within_its_budget(tmp_path):
    classifier = tmp_path / 'classifier.pth'
    torch.save(DomainClassifier(num_classes=10).state_dict(), classifier)
    config = 'configs/gan_compression/gan_compression_digits_16.py'
    code, out = finish(
        train(
            tmp_path / 'run',
            config=config,
            options=[
                'train_cfg.max_iters=3',
                'train_cfg.val_interval=100',
                'train_dataloader.batch_size=8',
                'val_evaluator.metrics.0.fake_nums=60',
                f'val_evaluator.metrics.0.checkpoint={classifier}',
                'default_hooks.once_for_all.candidates=3',
                'default_hooks.once_for_all.budget=0.3',
            ],
        )
    )
    assert code == 0, out
    tried = [line for line in out.splitlines() if 'widths {' in line]
    assert len(tried) == 3
    best = min(float(line.split()[-1]) for line in tried)

    config = Config.fromfile(f'{ROOT}/{config}')
    checkpoint = str(tmp_path / 'run' / 'iter_3.pth')
    student = build_student(config, checkpoint)
    channels = link_masks(student, example_inputs(student, batch=1))
    left = remaining_complexity(channels)['multiply_adds']
    for _, mask in named_masks(student):
        mask.pruned.fill_(False)
    dense = remaining_complexity(channels)['multiply_adds']
    assert 0 < left <= 0.3 * dense
    # the best of those tried is the one kept
    kept = next(line for line in tried if float(line.split()[-1]) == best)
    widths = ast.literal_eval(kept[kept.index('{') : kept.index('}') + 1])
    found = build_student(config, checkpoint)
    for name, mask in named_masks(found):
        assert mask.channels - mask.num_pruned == max(
            1, round(widths[name] * mask.channels)
        )
    exported = export_student(config, checkpoint).generator
    noise, labels = torch.randn(20, found.noise_size), torch.arange(20) % 10
    with torch.no_grad():
        torch.testing.assert_close(
            exported(noise, label=labels),
            found(noise, label=labels),
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.parametrize(
    'options, message',
    [
        (
            [
                'default_hooks.once_for_all.budget=0.05',
                'val_evaluator.metrics=[]',
            ],
            'budget=0.05 cannot be met',
        ),
        (
            ['val_dataloader=None', 'val_cfg=None', 'val_evaluator=None'],
            'needs a validation',
        ),
    ],
)
def test_a_search_that_must_fail_is_refused_before_the_training(
    tmp_path, options, message
):
    code, out = finish(
        train(
            tmp_path / 'run',
            config='configs/gan_compression/gan_compression_digits_16.py',
            options=options,
        )
    )
    assert code != 0
    assert message in out
    assert 'Iter(train)' not in out


def test_slerp_in_closed_form():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    middle = slerp(a, b, torch.tensor([0.0, 0.5, 1.0]))
    expected = torch.tensor([[2.0, 0.0], [2**0.5, 2**0.5], [0.0, 2.0]])
    torch.testing.assert_close(middle, expected)
    torch.testing.assert_close(
        slerp(a, 3 * a, torch.tensor([0.5])), torch.tensor([[4.0, 0.0]])
    )


@pytest.mark.parametrize('config', [SAGAN, BIGGAN])
def test_interpolations_end_where_they_should(config):
    generator = build_generator(config)
    noise, _ = every_class()
    with torch.no_grad():
        ends = generator(noise[:1].expand(2, -1), label=torch.tensor([1, 4]))
    walk = interpolate_classes(generator, noise[0], 1, 4, 5)
    torch.testing.assert_close(walk[[0, -1]], ends)
    assert (walk[2] - walk[0]).abs().max() > 1e-3
    assert not any(
        m._forward_hooks
        for m in generator.modules()
        if isinstance(m, torch.nn.Embedding)
    )
    with torch.no_grad():
        ends = generator(noise[:2], label=torch.tensor([3, 3]))
    walk = interpolate_noises(generator, noise[0], noise[1], 3, 4)
    torch.testing.assert_close(walk[[0, -1]], ends, rtol=0, atol=1e-5)
