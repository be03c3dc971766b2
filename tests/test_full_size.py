"""The sizes of the paper: 128 px, 1000 classes."""

import resource

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from test_export import student_checkpoint

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.export import export_student
from ppcd_mmagic.models import MaskL1Loss
from ppcd_mmagic.registry import MODELS

FACTORS = [16, 16, 8, 4, 2, 1]  # of MMagic's SNGAN/SAGAN generator at 128 px
ALPHAS = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
# method: millions of parameters with every mask at its cap
CONV_1_ONLY = [32.34, 29.12, 25.90, 22.67, 19.45, 16.22]
SHARED = [26.56, 22.19, 18.21, 14.62, 11.42, 8.61]
ONLY_CONV_1 = dict(masked_convs=['conv_1'])
ALL_SHARED = dict(residual_masks='shared')


def sagan(base=64, classes=1000, **changes):
    return dict(
        type='PPResSAGANGenerator',
        output_scale=128,
        noise_size=128,
        num_classes=classes,
        base_channels=base,
        attention_after_nth_block=4,
        with_spectral_norm=True,
        with_embedding_spectral_norm=False,
        auto_sync_bn=False,
        **changes,
    )


def biggan(base=96, classes=1000, **changes):
    return dict(
        type='PPResBigGANGenerator',
        output_scale=128,
        noise_size=120,
        num_classes=classes,
        base_channels=base,
        auto_sync_bn=False,
        init_cfg=dict(type='N02'),  # orthogonal takes a minute
        **changes,
    )


def sagan_parameters(base, classes, hidden_alpha, stream_alpha, whole=True):
    """Every layer counted by its widths. Noise, attention's inner channels
    and the first feature map are never pruned. The table of the method counts
    fractions of channels; ``whole`` prunes floor(alpha * c) as the masks."""
    noise = 128

    def kept(channels, alpha):
        pruned = alpha * channels
        return channels - (int(pruned + 1e-6) if whole else pruned)

    widths = [f * base for f in FACTORS]
    stream = widths[:1] + [kept(w, stream_alpha) for w in widths[1:]]
    total = (noise + 1) * 16 * widths[0]
    for index in range(5):
        before, after = stream[index : index + 2]
        hidden = kept(widths[index + 1], hidden_alpha)
        norms = 2 * classes * (before + hidden)
        convs = (9 * before + 1) * hidden + (9 * hidden + 1) * after
        total += norms + convs + (before + 1) * after
    inner = 2 * base  # attention after block 4
    total += stream[4] * (inner // 8 * 2 + inner // 2 * 2) + 1
    return total + 2 * stream[5] + 9 * stream[5] * 3 + 3


def settle(generator, steps):
    """Training forwards: spectral norm finds sigma, norms their statistics."""
    generator.train()
    with torch.no_grad():
        for _ in range(steps):
            generator(
                torch.randn(2, generator.noise_size),
                label=torch.randint(generator.num_classes, (2,)),
            )
    return generator.eval()


def export(config, student, tmp_path, max_classes):
    path = student_checkpoint(tmp_path / 'student.pth', student)
    model = dict(type='PPCDGAN', generator=config)
    return export_student(Config(dict(model=model)), path, max_classes)


@torch.no_grad()
def assert_same_images(one, other, classes):
    label = torch.tensor(list(classes))
    noise = torch.randn(len(label), other.noise_size)
    expected = other(noise, label=label)
    assert expected.std() > 0.01
    torch.testing.assert_close(
        one(noise, label=label), expected, rtol=0, atol=1e-5
    )


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_dense_sizes():
    # with values: readers of masks are found by a forward pass
    student = MODELS.build(sagan())
    masks = sum(mask.channels for _, mask in named_masks(student))
    assert parameters(student) - masks == 42_017_412
    assert sagan_parameters(64, 1000, 0, 0) == 42_017_412


@pytest.mark.parametrize(
    'alpha, conv_1_only, shared', zip(ALPHAS, CONV_1_ONLY, SHARED)
)
def test_formula_gives_the_table(alpha, conv_1_only, shared):
    for stream_alpha, expected in ((0, conv_1_only), (alpha, shared)):
        by_hand = sagan_parameters(64, 1000, alpha, stream_alpha, whole=False)
        assert by_hand / 1e6 == pytest.approx(expected, abs=0.005)
        rounded_down = sagan_parameters(64, 1000, alpha, stream_alpha)
        assert 0 <= (rounded_down - by_hand) / 1e6 < 0.04


@pytest.mark.parametrize('masks', [ONLY_CONV_1, ALL_SHARED])
@pytest.mark.parametrize('alpha', ALPHAS)
def test_formula_of_the_tables_at_an_eighth_of_the_width(
    alpha, masks, tmp_path
):
    """The same depth and resolution, so that all the cases can be exported."""
    config = sagan(base=8, classes=6, **masks)
    torch.manual_seed(0)
    student = settle(MODELS.build(config), 5)
    for _, mask in named_masks(student):
        torch.nn.init.uniform_(mask.weight)
        mask.prune(int(alpha * mask.channels + 1e-6))
    result = export(config, student, tmp_path, 3)
    assert result.summary['after']['parameters'] == sagan_parameters(
        8, 6, alpha, alpha if masks is ALL_SHARED else 0
    )


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('alpha', [0.3, 0.8])
def test_export_with_masks_set_by_training(alpha, residual_masks, tmp_path):
    """Scores that the losses moved, and everything else as well."""
    config = sagan(base=8, classes=6, residual_masks=residual_masks)
    torch.manual_seed(0)
    student = settle(MODELS.build(config), 5).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    target = torch.rand(2, 3, 128, 128) * 2 - 1
    for step in range(4):
        label = torch.tensor([step, 5 - step])
        image = student(torch.randn(2, 128), label=label)
        masks = [mask for _, mask in named_masks(student)]
        loss = nn.functional.mse_loss(image, target) + MaskL1Loss()(masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for mask in masks:
            mask.prune(int(alpha * mask.channels * (step + 1) / 4))
    assert len({round(float(s), 6) for m in masks for s in m.weight}) > 100
    result = export(config, student.eval(), tmp_path, 6)
    assert_same_images(result.generator, student, range(6))


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, alpha',
    [(sagan(**ALL_SHARED), 0.8), (sagan(**ONLY_CONV_1), 0.5), (biggan(), 0.3)],
    ids=['sagan-shared-0.8', 'sagan-conv_1-0.5', 'biggan-independent-0.3'],
)
def test_full_size_export(config, alpha, tmp_path):
    torch.manual_seed(0)
    student = settle(MODELS.build(config), 3)
    for _, mask in named_masks(student):
        torch.nn.init.uniform_(mask.weight)
        mask.prune(int(alpha * mask.channels + 1e-6))
    result = export(config, student, tmp_path, 4)
    after = result.summary['after']['parameters']
    assert_same_images(result.generator, student, [1, 999])
    assert after == parameters(result.generator)
    if config['type'] == 'PPResSAGANGenerator':
        assert after == sagan_parameters(
            64,
            1000,
            alpha,
            alpha if config.get('residual_masks') == 'shared' else 0,
        )
    else:
        assert after < 70_433_988
    # in kilobytes; of the whole test process so far
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 * 2**20
