"""Widths rounded up by reviving the strongest of the pruned channels."""
import copy

import pytest
import torch
from conftest import (BIGGAN, SAGAN, build_generator, every_class, prune)
from test_export import student_checkpoint, training_config

from ppcd_mmagic.export import export_student, round_widths
from ppcd_mmagic.masks import mask_of, named_masks

WIDE = dict(
    sagan=dict(SAGAN, base_channels=16),
    biggan=dict(
        BIGGAN,
        arch_cfg=dict(
            BIGGAN['arch_cfg'], in_channels=[32, 32], out_channels=[32, 16])))


def residual_blocks(generator):
    return [b for b in generator.conv_blocks if hasattr(b, 'shortcut')]


def parts(block):
    names = ('conv_1', 'conv_2') if hasattr(block, 'conv_1') else ('conv1',
                                                                   'conv2')
    first, second = (getattr(block, name).conv for name in names)
    return mask_of(first), mask_of(second), mask_of(block.shortcut.conv)


def revive_by_hand(masks, multiple):
    """One channel after the other, always the best score that is left."""
    while True:
        dead = [
            c for c in range(masks[0].channels)
            if all(mask.pruned[c] for mask in masks)
        ]
        if not dead or (masks[0].channels - len(dead)) % multiple == 0:
            return
        best = max(dead, key=lambda c: max(mask.weight[c] for mask in masks))
        for mask in masks:
            mask.pruned[best] = False


@pytest.mark.parametrize('multiple', [8, 16])
@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', WIDE)
def test_rounded_export_is_the_student_with_the_strongest_revived(
        name, residual_masks, multiple, tmp_path):
    config = dict(WIDE[name], residual_masks=residual_masks)
    student = build_generator(config)
    prune(student, 0.6)
    checkpoint = student_checkpoint(tmp_path / 's.pth', student)
    pruned_before = sum(mask.num_pruned for _, mask in named_masks(student))
    for block in residual_blocks(student):
        first, second, shortcut = parts(block)
        revive_by_hand([first], multiple)
        revive_by_hand([second, shortcut], multiple)
    assert sum(mask.num_pruned
               for _, mask in named_masks(student)) < pruned_before

    export = export_student(
        training_config(config), checkpoint, round_to=multiple)
    noise, labels = every_class(2)
    with torch.no_grad():
        torch.testing.assert_close(
            export.generator(noise, label=labels),
            student(noise, label=labels),
            rtol=0,
            atol=1e-5)
    narrowed = 0
    for block in residual_blocks(export.generator):
        for conv in ('conv_1', 'conv_2', 'conv1', 'conv2', 'shortcut'):
            if hasattr(block, conv):
                width = getattr(block, conv).conv.out_channels
                assert width % multiple == 0
                narrowed += width < 32
    assert narrowed
    assert export.summary['round_to'] == multiple
    assert sum(export.summary['revived_channels'].values()) > 0


def test_never_wider_than_the_student():
    """13 channels are no multiple of 8, and no reason for 16."""
    config = dict(SAGAN, base_channels=13, channels_cfg=[1, 1],
                  attention_after_nth_block=0, residual_masks='shared')
    student = build_generator(config)
    for _, mask in named_masks(student):
        mask.prune(3)
    round_widths(student, 8)
    assert all(mask.num_pruned == 0 for _, mask in named_masks(student))


def test_nothing_is_revived_where_widths_fit():
    student = build_generator(WIDE['sagan'], residual_masks='shared')
    prune(student, 0.5)
    before = copy.deepcopy(student.state_dict())
    assert round_widths(student, 8) == {}
    after = student.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_multiple_of_one_is_refused():
    with pytest.raises(ValueError, match='round_to=1 must be at least 2'):
        round_widths(build_generator(SAGAN), 1)
