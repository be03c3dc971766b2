"""A run that removes pruned channels against the one that only masks."""
import copy
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from conftest import CLASSES, NOISE, STUDENTS, every_class
from gans import build_gan
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict

from ppcd_mmagic.export import export_student
from ppcd_mmagic.masks import named_masks
from ppcd_mmagic.registry import HOOKS

ITERATIONS, INTERVAL = 14, 3
MASKING = dict(type='MaskBinarizationHook', alpha=0.6, schedule='linear',
               begin=1, end=10)
SHRINKING = dict(type='ShrinkHook', interval=INTERVAL)


@pytest.fixture(autouse=True)
def double_precision():
    """Sums in another order differ by 1e-16 and not by 1e-7, which Adam would
    blow up where gradients are zero but for rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Prepared(torch.nn.Module):
    """Takes the place of the preprocessor, which casts to single."""

    def forward(self, data, training):
        return data


class Run:
    """As much of a runner as training needs."""

    def __init__(self, name, *hooks, **generator):
        self.generator_cfg = dict(STUDENTS[name], **generator)
        self.model = build_gan(generator=self.generator_cfg)
        self.model.data_preprocessor = Prepared()
        self.optim_wrapper = OptimWrapperDict(
            **{
                part: OptimWrapper(
                    torch.optim.Adam(
                        getattr(self.model, part).parameters(),
                        lr=2e-3,
                        betas=(0.5, 0.9)))
                for part in ('generator', 'discriminator')
            })
        self.hooks = [HOOKS.build(copy.deepcopy(hook)) for hook in hooks]
        self.iter, self.max_iters = 0, ITERATIONS
        self.visualizer = Mock()
        self.message_hub = MessageHub.get_instance('test_shrinking')
        for hook in self.hooks:
            hook.before_run(self)
            hook.before_train(self)

    def train(self, until=ITERATIONS):
        """Losses of each iteration."""
        self.model.train()
        losses = []
        while self.iter < until:
            MessageHub.get_current_instance().update_info('iter', self.iter)
            torch.manual_seed(self.iter)
            labels = torch.randint(CLASSES, (6, ))
            sample = DataSample(gt_img=torch.rand(6, 3, 16, 16) * 2 - 1)
            sample.set_gt_label(labels)
            logs = self.model.train_step(
                dict(inputs=sample.gt_img, data_samples=sample),
                self.optim_wrapper)
            losses.append([float(logs[key]) for key in sorted(logs)])
            for hook in self.hooks:
                hook.after_train_iter(self, self.iter)
            self.iter += 1
        return torch.tensor(losses)

    def checkpoint(self):
        return copy.deepcopy(
            dict(
                state_dict=self.model.state_dict(),
                optimizer=self.optim_wrapper.state_dict(),
                iter=self.iter))

    def resume(self, checkpoint):
        for hook in self.hooks:
            hook.after_load_checkpoint(self, checkpoint)
        self.model.load_state_dict(checkpoint['state_dict'])
        self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        self.iter = checkpoint['iter']

    def images(self, part='generator'):
        noise, labels = every_class(2)
        generator = getattr(self.model, part).eval()
        with torch.no_grad():
            return generator(noise.double(), label=labels)


def size(module):
    return sum(p.numel() for p in module.parameters())


def optimizer_size(run):
    states = run.optim_wrapper['generator'].optimizer.state.values()
    return sum(state[key].numel() for state in states
               for key in ('exp_avg', 'exp_avg_sq'))


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', STUDENTS)
def test_shrunk_run_equals_the_masked_one(name, residual_masks):
    masked = Run(name, MASKING, dict(SHRINKING, remove=False),
                 residual_masks=residual_masks)
    shrunk = Run(name, MASKING, SHRINKING, residual_masks=residual_masks)
    full = size(shrunk.model.generator)
    expected, actual = masked.train(), shrunk.train()
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7)
    for part in ('generator', 'generator_ema'):
        torch.testing.assert_close(
            shrunk.images(part), masked.images(part), rtol=0, atol=1e-6)

    left = size(shrunk.model.generator)
    assert left < 0.9 * full == 0.9 * size(masked.model.generator)
    assert size(shrunk.model.generator_ema.module) == left
    assert optimizer_size(shrunk) == 2 * left
    for (_, a), (_, b) in zip(
            named_masks(masked.model.generator),
            named_masks(shrunk.model.generator)):
        assert a.num_pruned == b.num_pruned == int(0.6 * a.channels + 1e-6)
        assert a.channels == b.channels and a.sparsity == b.sparsity


def test_without_spectral_norm_nothing_but_the_masks_is_needed():
    """The run it equals is the plain one, without this hook."""
    # MMagic's attention normalizes all the same, unless its config says no
    plain = dict(
        residual_masks='shared',
        attention_cfg=dict(type='SelfAttentionBlock', with_spectral_norm=False))
    masked = Run('sagan_plain', MASKING, **plain)
    shrunk = Run('sagan_plain', MASKING, SHRINKING, **plain)
    state = shrunk.model.generator.state_dict()
    assert not any(key.endswith('weight_orig') for key in state)
    torch.testing.assert_close(
        shrunk.train(), masked.train(), rtol=1e-7, atol=1e-7)


def test_spectral_norm_sees_the_living_channels():
    run = Run('sagan', MASKING, SHRINKING, residual_masks='shared')
    before = {
        name: module.weight_orig.shape
        for name, module in run.model.generator.named_modules()
        if hasattr(module, 'weight_orig')
    }
    run.train(9)
    changed = 0
    for name, shape in before.items():
        module = run.model.generator.get_submodule(name)
        if module.weight_orig.shape == shape:
            continue
        changed += 1
        for _ in range(200):
            module(torch.zeros(1, module.weight_orig.shape[1], 4, 4)
                   if hasattr(module, 'kernel_size') else
                   torch.zeros(1, dtype=torch.long))
        largest = torch.linalg.matrix_norm(module.weight.flatten(1), ord=2)
        assert float(largest) == pytest.approx(1, abs=1e-3), name
    assert changed >= 10


@pytest.mark.parametrize('name', ['sagan', 'biggan'])
def test_resumed_run_continues_exactly(name):
    whole = Run(name, MASKING, SHRINKING)
    expected = whole.train()
    killed = Run(name, MASKING, SHRINKING)
    first = killed.train(8)
    checkpoint = killed.checkpoint()
    resumed = Run(name, MASKING, SHRINKING)
    assert size(resumed.model.generator) > size(killed.model.generator)
    resumed.resume(checkpoint)
    assert size(resumed.model.generator) == size(killed.model.generator)
    second = resumed.train()
    assert torch.equal(torch.cat([first, second]), expected)
    state = whole.model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize('residual_masks', ['independent', 'shared'])
@pytest.mark.parametrize('name', ['sagan', 'sagan_ajbrock', 'biggan'])
def test_checkpoint_of_a_shrunk_run_is_exported(name, residual_masks,
                                                tmp_path):
    shrunk = Run(name, MASKING, SHRINKING, residual_masks=residual_masks)
    masked = Run(name, MASKING, dict(SHRINKING, remove=False),
                 residual_masks=residual_masks)
    torch.set_default_dtype(torch.float32)
    sizes = []
    for run in (shrunk, masked):
        torch.set_default_dtype(torch.float64)
        run.train()
        expected = run.images('generator_ema')
        torch.set_default_dtype(torch.float32)
        state = {
            key: value.float() if value.is_floating_point() else value
            for key, value in run.model.state_dict().items()
        }
        path = tmp_path / 'run.pth'
        torch.save(dict(state_dict=state), path)
        config = Config(
            dict(
                model=dict(
                    type='PPCDGAN',
                    num_classes=CLASSES,
                    noise_size=NOISE,
                    generator=run.generator_cfg)))
        export = export_student(config, str(path))
        sizes.append(export.summary['after'])
        assert export.summary['sparsity'] == {
            name: mask.sparsity
            for name, mask in named_masks(run.model.generator)
        }
        torch.set_default_dtype(torch.float64)
        noise, labels = every_class(2)
        torch.testing.assert_close(
            export.generator.double()(noise, label=labels),
            expected,
            rtol=0,
            atol=1e-3)
        torch.set_default_dtype(torch.float32)
    assert sizes[0] == sizes[1]


def test_a_mask_never_loses_more_than_alpha_of_what_it_was_built_with():
    run = Run('sagan', dict(MASKING, schedule='threshold', threshold=10.),
              dict(SHRINKING, interval=1), residual_masks='shared')
    run.train(5)
    for _, mask in named_masks(run.model.generator):
        assert mask.num_pruned == int(0.6 * mask.channels + 1e-6)
        assert len(mask.weight) == mask.channels - mask.num_pruned


def test_channels_that_something_unmasked_writes_stay():
    run = Run('sagan', MASKING, SHRINKING)
    config = dict(STUDENTS['sagan'], masked_convs=['conv_1', 'conv_2'])
    run.model.generator = build_gan(generator=config).generator
    generator = run.model.generator
    for _, mask in named_masks(generator):
        mask.prune(mask.channels // 2)
    from ppcd_mmagic.shrinking import remove_dead_channels
    widths = [b.conv_2.conv.out_channels for b in (generator.conv_blocks[0],
                                                   generator.conv_blocks[2])]
    remove_dead_channels(generator)
    for block, width in zip(
        (generator.conv_blocks[0], generator.conv_blocks[2]), widths):
        assert block.conv_2.conv.out_channels == width
        assert block.conv_1.conv.out_channels == width // 2


def test_bad_use_is_refused():
    with pytest.raises(ValueError, match='interval=0 must be at least 1'):
        HOOKS.build(dict(SHRINKING, interval=0))
    from mmengine.model import MMDistributedDataParallel
    hook = HOOKS.build(SHRINKING)
    wrapped = SimpleNamespace(
        model=SimpleNamespace(
            generator=Mock(spec=MMDistributedDataParallel)))
    with pytest.raises(ValueError, match='cannot shrink a distributed model'):
        hook.before_train(wrapped)
