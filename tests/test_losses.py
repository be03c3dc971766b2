import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcd_mmagic.channels import ChannelMask
from ppcd_mmagic.models.losses import attention_map
from ppcd_mmagic.registry import MODELS


def reference_map(feature, p):
    """Zagoruyko and Komodakis, with loops, in float64."""
    feature = feature.double().numpy()
    maps = np.zeros((len(feature), feature.shape[2] * feature.shape[3]))
    for i, sample in enumerate(feature):
        total = np.zeros(sample.shape[1:])
        for channel in sample:
            total += np.abs(channel) ** p
        flat = total.reshape(-1)
        maps[i] = flat / np.sqrt((flat**2).sum())
    return maps


@pytest.mark.parametrize('p', [1, 2, 4])
@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (1, 16, 5, 7), (3, 1, 1, 2)])
def test_attention_map_against_float64(shape, p):
    feature = torch.randn(shape)
    np.testing.assert_allclose(
        attention_map(feature, p).numpy(),
        reference_map(feature, p),
        rtol=0,
        atol=1e-6,
    )


def test_attention_map_does_not_care_for_scale_or_channel_order():
    feature = torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(
        attention_map(feature), attention_map(3 * feature.flip(1))
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_attention_map_of_half_precision_is_computed_in_float32(dtype):
    feature = (torch.randn(2, 64, 4, 4) * 100).to(dtype)  # squares overflow
    actual = attention_map(feature)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(
        actual.numpy(), reference_map(feature, 2), atol=1e-6
    )


def test_attention_map_of_nothing_is_zero():
    assert torch.equal(
        attention_map(torch.zeros(2, 3, 2, 2)), torch.zeros(2, 4)
    )


def features(channels):
    torch.manual_seed(channels)
    return {
        size: torch.randn(3, channels + size, size, size, dtype=torch.float64)
        for size in (4, 8)
    }


def reference_distance(student, teacher, distance, reduction, p=2):
    total = 0.0
    for size in student:
        difference = reference_map(student[size].detach(), p) - reference_map(
            teacher[size], p
        )
        each = (
            np.sqrt((difference**2).sum(1))
            if distance == 'l2'
            else (difference**2).mean(1)
        )
        total += getattr(each, reduction)()
    return total


@pytest.mark.parametrize('p', [1, 2, 4])
@pytest.mark.parametrize('distance', ['l2', 'mse'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_distillation_loss_by_hand(distance, reduction, p):
    student, teacher = features(4), features(7)
    loss = MODELS.build(
        dict(
            type='AttentionDistillationLoss',
            loss_weight=2.5,
            p=p,
            distance=distance,
            reduction=reduction,
        )
    )
    expected = 2.5 * reference_distance(
        student, teacher, distance, reduction, p
    )
    np.testing.assert_allclose(
        float(loss(student, teacher)), expected, rtol=1e-10
    )
    assert float(loss(student, student)) == pytest.approx(0, abs=1e-5)


def test_distillation_loss_by_default_is_the_mean_l2_distance_of_the_squares():
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    student, teacher = features(4), features(7)
    np.testing.assert_allclose(
        float(loss(student, teacher)),
        reference_distance(student, teacher, 'l2', 'mean'),
        rtol=1e-10,
    )
    assert loss.loss_name() == 'loss_cd'


def test_maps_that_have_nothing_in_common_are_the_square_root_of_two_apart():
    left = torch.tensor([[[[3.0, 0.0]]], [[[3.0, 0.0]]]])
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    assert float(
        loss(dict(a=left, b=left), dict(a=left.flip(-1), b=left))
    ) == pytest.approx(2**0.5)


@pytest.mark.parametrize('distance', ['l2', 'mse'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_distillation_gradient_by_finite_differences(distance, reduction):
    student, teacher = features(4), features(7)
    for feature in (*student.values(), *teacher.values()):
        feature.requires_grad_()
    MODELS.build(
        dict(
            type='AttentionDistillationLoss',
            distance=distance,
            reduction=reduction,
        )
    )(student, teacher).backward()
    teacher = {size: feature.detach() for size, feature in teacher.items()}
    for size in student:
        gradient = student[size].grad
        index = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        around = []
        for step in (1e-6, -1e-6):
            moved = {k: v.detach().clone() for k, v in student.items()}
            moved[size][index] += step
            around.append(
                reference_distance(moved, teacher, distance, reduction)
            )
        assert abs(gradient[index]) > 1e-5
        assert float(gradient[index]) == pytest.approx(
            (around[0] - around[1]) / 2e-6, rel=1e-4
        )


def test_distillation_gradient_never_reaches_the_teacher():
    student, teacher = features(4), features(7)
    for feature in (*student.values(), *teacher.values()):
        feature.requires_grad_()
    MODELS.build(dict(type='AttentionDistillationLoss'))(
        student, teacher
    ).backward()
    assert all(feature.grad is None for feature in teacher.values())
    assert all(feature.grad.abs().max() > 1e-4 for feature in student.values())


def test_distillation_gradient_is_finite_where_the_maps_agree():
    feature = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    loss({4: feature}, {4: feature.detach().clone()}).backward()
    assert feature.grad.isfinite().all()


def test_layers_that_do_not_match_are_named():
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    image = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r'\[8\].*\[16\]'):
        loss({8: image}, {16: image})
    with pytest.raises(ValueError, match=r'\[8\].*\[8, 16\]'):
        loss({8: image}, {8: image, 16: image})


def test_sizes_that_do_not_match_are_named():
    loss = MODELS.build(dict(type='AttentionDistillationLoss'))
    with pytest.raises(ValueError, match=r'\(8, 4\).*\(8, 8\)'):
        loss({8: torch.zeros(1, 1, 8, 4)}, {8: torch.zeros(1, 1, 8, 8)})


@pytest.mark.parametrize(
    'kind, argument',
    [
        ('AttentionDistillationLoss', dict(distance='l3')),
        ('AttentionDistillationLoss', dict(reduction='max')),
        ('MaskL1Loss', dict(reduction='max')),
    ],
)
def test_arguments_of_losses_that_do_not_exist_are_named(kind, argument):
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match=f'{name}="{value}"'):
        MODELS.build(dict(type=kind, **argument))


def some_masks(scores):
    """Of the given scores, the lower half of each pruned."""
    masks = []
    for values in scores:
        mask = ChannelMask(len(values))
        mask.weight.data.copy_(torch.tensor(values))
        mask.prune(len(values) // 2)
        masks.append(mask)
    return masks


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@given(
    scores=st.lists(
        st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9),
        min_size=1,
        max_size=4,
    ),
    weight=st.floats(0, 2),
)
@settings(max_examples=50, deadline=None)
def test_pruning_loss_by_hand(reduction, scores, weight):
    masks = some_masks(scores)
    expected = getattr(np, reduction)(
        [
            np.mean(
                [
                    0.0 if dead else abs(float(value))
                    for value, dead in zip(mask.weight.detach(), mask.pruned)
                ]
            )
            for mask in masks
        ]
    )
    loss = MODELS.build(
        dict(type='MaskL1Loss', loss_weight=weight, reduction=reduction)
    )
    assert float(loss(iter(masks))) == pytest.approx(
        weight * expected, rel=1e-5, abs=1e-6
    )


def test_pruning_loss_by_default_is_the_mean_over_the_masks():
    loss = MODELS.build(dict(type='MaskL1Loss'))
    masks = some_masks([[1.0, -2.0], [0.5, 3.0, 1.0, 4.0]])
    assert float(loss(masks)) == pytest.approx((1 / 2 + 7 / 4) / 2)
    assert loss.loss_name() == 'loss_pp'


def test_pruning_loss_pulls_every_living_score_towards_zero_alike():
    masks = some_masks([[1.0, -2.0, 0.2, -0.1], [-0.5, 3.0, -1.0, 4.0]])
    masks[0].pruned[:] = torch.tensor([False, False, False, True])
    MODELS.build(dict(type='MaskL1Loss', loss_weight=3.0))(masks).backward()
    pull = 3 / 2 / 4  # weight, masks, channels
    assert masks[0].weight.grad.tolist() == [pull, -pull, pull, 0]
    assert masks[1].weight.grad.tolist() == [0, pull, 0, pull]


def test_pruning_loss_counts_channels_that_were_removed():
    """A mean over those left would grow when the dead ones go."""
    masks = some_masks([[1.0, -2.0, 0.2, -0.1], [0.5, 3.0, 1.0, 4.0]])
    loss = MODELS.build(dict(type='MaskL1Loss'))
    before = float(loss(masks))
    for mask in masks:
        mask.keep((~mask.pruned).nonzero()[:, 0])
        assert len(mask.weight) == 2
    assert float(loss(masks)) == before == pytest.approx((1.2 / 4 + 7 / 4) / 2)


def test_pruning_loss_does_not_depend_on_width_or_depth():
    loss = MODELS.build(dict(type='MaskL1Loss'))
    assert (
        float(loss([ChannelMask(4)]))
        == float(loss([ChannelMask(512), ChannelMask(64)]))
        == 1.0
    )
