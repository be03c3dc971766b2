"""Masks and removal on generators of MMagic, torchvision and diffusers."""

import functools

import pytest
import torch
from channel_checks import call, closed_but_moving, cut, leak, prune_some, scale
from torch.utils._pytree import tree_leaves
from zoo import PRUNABLE, REFUSED, ZOO, build

from ppcd_mmagic.channels import (
    largest_difference,
    mask_channels,
    named_masks,
    shrink_channels,
)
from ppcd_mmagic.errors import PPCDError

BOTH = pytest.mark.parametrize(
    'tie', [False, True], ids=['independent', 'tied']
)
EACH = pytest.mark.parametrize('name', PRUNABLE)
OF_MMAGIC = [name for name in PRUNABLE if isinstance(ZOO[name].build, dict)]
PLAIN = [name for name in OF_MMAGIC if name != 'SAGAN' and 'BigGAN' not in name]


@functools.lru_cache(maxsize=1)
def masked(name, tie):
    """A generator with masks, and how many parameters it had; the tests only
    look at it."""
    module, inputs = build(name)
    before = sum(p.numel() for p in module.parameters())
    channels = mask_channels(module, inputs, tie=tie)
    prune_some(module)
    return module, inputs, channels, before


@EACH
@BOTH
def test_nothing_that_can_leave_reaches_the_image(name, tie):
    module, inputs, channels, _ = masked(name, tie)
    assert leak(module, channels, inputs) < 1e-6


@EACH
@BOTH
def test_gates_close_nothing_that_carries_the_input(name, tie):
    module, inputs, channels, _ = masked(name, tie)
    maps = 'BigGAN' in name
    assert closed_but_moving(module, channels, inputs, maps) == {}


@EACH
@BOTH
def test_the_export_is_exact_and_of_the_size_foretold(name, tie):
    module, inputs, channels, before = masked(name, tie)
    smaller = cut(module, channels, inputs)
    left = 100 * sum(p.numel() for p in smaller.parameters()) / before
    assert abs(left - ZOO[name].left[not tie]) <= 8  # percent


@pytest.mark.parametrize('name', REFUSED)
def test_where_nothing_can_leave_one_line_says_why(name):
    module, inputs = build(name)
    with pytest.raises(PPCDError) as refused:
        mask_channels(module, inputs)
    assert ZOO[name].why in str(refused.value)
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize('name', OF_MMAGIC)
def test_a_step_reaches_the_scores_and_goes_on_after_shrinking(name):
    module, inputs, _, _ = masked.__wrapped__(name, True)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    scores = [mask.weight for _, mask in named_masks(module)]
    before = [score.detach().clone() for score in scores]
    _step(module, inputs, optimizer)
    assert all(torch.isfinite(score.grad).all() for score in scores)
    assert any(not torch.equal(old, new) for old, new in zip(before, scores))
    expected = call(module, inputs)
    assert shrink_channels(module, inputs, optimizer) > 0
    if name in PLAIN:
        assert largest_difference(
            expected, call(module, inputs)
        ) <= 1e-5 * scale(expected)
    _step(module, inputs, optimizer)
    assert all(torch.isfinite(p).all() for p in module.parameters())


def _step(module, inputs, optimizer):
    args = inputs[:-1] if isinstance(inputs[-1], dict) else inputs
    kwargs = inputs[-1] if isinstance(inputs[-1], dict) else {}
    optimizer.zero_grad()
    out = [
        value
        for value in tree_leaves(module.train()(*args, **kwargs))
        if torch.is_tensor(value)
    ]
    sum(value.square().mean() for value in out).backward()
    optimizer.step()
    module.eval()
