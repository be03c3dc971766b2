import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcd_mmagic.masks import ChannelMask
from ppcd_mmagic.models.losses import attention_map
from ppcd_mmagic.registry import MODELS


def reference_map(feature, p):
    """Zagoruyko and Komodakis, with loops, in float64."""
    feature = feature.double().numpy()
    maps = np.zeros((len(feature), feature.shape[2] * feature.shape[3]))
    for i, sample in enumerate(feature):
        total = np.zeros(sample.shape[1:])
        for channel in sample:
            total += np.abs(channel)**p
        flat = total.reshape(-1)
        maps[i] = flat / np.sqrt((flat**2).sum())
    return maps


@pytest.mark.parametrize('p', [1, 2, 4])
@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (1, 16, 5, 7), (3, 1, 1, 2)])
def test_attention_map_against_float64(shape, p):
    feature = torch.randn(shape)
    np.testing.assert_allclose(
        attention_map(feature, p).numpy(), reference_map(feature, p),
        rtol=0, atol=1e-6)


def test_attention_map_of_half_precision_is_computed_in_float32():
    feature = torch.randn(2, 64, 4, 4) * 100  # squares overflow float16
    actual = attention_map(feature.half())
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(
        actual.numpy(), reference_map(feature.half(), 2), atol=1e-6)


def test_attention_map_does_not_care_for_scale_or_channel_order():
    feature = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(
        attention_map(feature), attention_map(3 * feature.flip(1)))


@pytest.mark.parametrize('distance', ['l2', 'mse'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_distillation_loss_against_float64(distance, reduction):
    student = {8: torch.randn(3, 4, 8, 8), 16: torch.randn(3, 2, 16, 16)}
    teacher = {8: torch.randn(3, 7, 8, 8), 16: torch.randn(3, 5, 16, 16)}
    expected = 0.
    for size in student:
        difference = reference_map(student[size], 2) - reference_map(
            teacher[size], 2)
        each = np.sqrt((difference**2).sum(1)) if distance == 'l2' else (
            difference**2).mean(1)
        expected += getattr(each, reduction)()
    loss = MODELS.build(
        dict(
            type='AttentionDistillationLoss',
            loss_weight=2.5,
            distance=distance,
            reduction=reduction))
    np.testing.assert_allclose(
        float(loss(student, teacher)), 2.5 * expected, rtol=1e-5)
    assert float(loss(student, student)) == pytest.approx(0, abs=1e-5)


def test_distillation_gradient_reaches_the_student_only():
    student = {4: torch.randn(2, 3, 4, 4, requires_grad=True)}
    teacher = {4: torch.randn(2, 3, 4, 4, requires_grad=True)}
    MODELS.build(dict(type='AttentionDistillationLoss'))(student,
                                                         teacher).backward()
    assert student[4].grad.abs().sum() > 0
    assert teacher[4].grad is None


def test_distillation_gradient_is_finite_where_the_maps_agree():
    feature = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    loss({4: feature}, {4: feature.detach().clone()}).backward()
    assert feature.grad.isfinite().all()


def test_layers_that_do_not_match_are_named():
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    with pytest.raises(ValueError, match=r'\[8\].*\[16\]'):
        loss({8: torch.zeros(1, 1, 8, 8)}, {16: torch.zeros(1, 1, 16, 16)})
    with pytest.raises(ValueError, match='distance="l3"'):
        MODELS.build(dict(type='AttentionDistillationLoss', distance='l3'))
    with pytest.raises(ValueError, match='reduction="max"'):
        MODELS.build(dict(type='MaskL1Loss', reduction='max'))


@given(
    st.lists(
        st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9),
        min_size=1,
        max_size=4), st.floats(0, 2))
@settings(max_examples=50, deadline=None)
def test_pruning_loss_by_hand(scores, weight):
    masks = []
    for values in scores:
        mask = ChannelMask(len(values))
        mask.weight.data.copy_(torch.tensor(values))
        mask.prune(len(values) // 2)
        masks.append(mask)
    expected = np.mean([
        np.mean([
            0. if dead else abs(float(value))
            for value, dead in zip(mask.weight.detach(), mask.pruned)
        ]) for mask in masks
    ])
    loss = MODELS.build(dict(type='MaskL1Loss', loss_weight=weight))
    assert float(loss(iter(masks))) == pytest.approx(
        weight * expected, rel=1e-5, abs=1e-6)


def test_pruning_loss_does_not_depend_on_width_or_depth():
    loss = MODELS.build(dict(type='MaskL1Loss'))
    assert float(loss([ChannelMask(4)])) == float(
        loss([ChannelMask(512), ChannelMask(64)])) == 1.
