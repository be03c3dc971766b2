"""L_PP and L_CD in a model of MMagic, against the same added by hand."""

import copy
import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from conftest import CLASSES, NOISE, SAGAN, TEACHER
from gans import DISCRIMINATOR, batch, build_gan, optimizers
from mmagic.models.base_models import BaseConditionalGAN
from mmengine import MessageHub, MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from runs import tiny_config

from ppcd_mmagic import PPCDError
from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.engine import SafeRunner
from ppcd_mmagic.generators import FeatureTap
from ppcd_mmagic.registry import HOOKS, MODELS

LOSSES = dict(
    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.7),
    teacher=dict(type='GeneratorTeacher', generator=TEACHER),
    distillation_loss=dict(type='AttentionDistillationLoss', loss_weight=3.0),
)


class Foreign(BaseConditionalGAN):
    """A model that knows nothing of masks. Its discriminator sees images that
    were made with a gradient and detached; its generator runs twice."""

    def noise(self, n):
        return self.noise_fn(num_batches=n).double()

    def train_discriminator(self, inputs, data_samples, optimizer_wrapper):
        labels = self.data_sample_to_label(data_samples)
        fake = self.generator(self.noise(len(labels)), label=labels).detach()
        loss = F.softplus(self.discriminator(fake, label=labels)).mean()
        loss, log_vars = self.parse_losses(dict(loss_disc=loss))
        optimizer_wrapper.update_params(loss)
        return log_vars

    def train_generator(self, inputs, data_samples, optimizer_wrapper):
        labels = self.data_sample_to_label(data_samples)
        unused = self.generator(self.noise(len(labels)), label=labels)
        inputs = [self.noise(len(labels)) for _ in range(2)]
        losses = dict(loss_gen=0.0 * unused.detach().mean())
        for noise in inputs:
            fake, more = self.run(noise, labels)
            losses['loss_gen'] = (
                losses['loss_gen']
                + F.softplus(-self.discriminator(fake, label=labels)).mean()
            )
            for name, value in more.items():
                losses[name] = losses.get(name, 0) + value
        losses.update(self.once())
        loss, log_vars = self.parse_losses(losses)
        self.update(loss, optimizer_wrapper)
        return log_vars

    def update(self, loss, optimizer_wrapper):
        optimizer_wrapper.update_params(loss)

    def run(self, noise, labels):
        return self.generator(noise, label=labels), {}

    def once(self):
        return {}


class ByHand(Foreign):
    """The same model with the losses in its train step."""

    losses = {}

    def run(self, noise, labels):
        with FeatureTap(self.generator, 'conv_blocks.*') as tap:
            fake = self.generator(noise, label=labels)
        loss = self.losses['distillation_loss'](
            tap.by_resolution(), self.losses['teacher'](noise, label=labels)
        )
        return fake, dict(loss_cd=loss)

    def once(self):
        return dict(
            loss_pp=self.losses['pruning_loss'](
                mask for _, mask in named_masks(self.generator)
            )
        )


class Halves:
    """Mixed in, the loss is handed over in two parts, which both depend on
    the same images."""

    def update(self, loss, optimizer_wrapper):
        optimizer_wrapper.backward(loss / 4, retain_graph=True)
        optimizer_wrapper.backward(loss * 3 / 4)
        optimizer_wrapper.step()
        optimizer_wrapper.zero_grad()


class ForeignHalves(Halves, Foreign):
    pass


class ByHandHalves(Halves, ByHand):
    """Its losses are in the first part alone."""

    def update(self, loss, optimizer_wrapper):
        own = self.extra
        optimizer_wrapper.backward((loss - own) / 4 + own, retain_graph=True)
        optimizer_wrapper.backward((loss - own) * 3 / 4)
        optimizer_wrapper.step()
        optimizer_wrapper.zero_grad()

    def parse_losses(self, losses):
        self.extra = losses.get('loss_cd', 0) + losses.get('loss_pp', 0)
        return super().parse_losses(losses)


class Scaled(OptimWrapper):
    """Scales as the wrapper of mixed precision does."""

    def backward(self, loss, **kwargs):
        super().backward(loss * 4, **kwargs)


def built(kind, generator=SAGAN):
    torch.manual_seed(0)
    model = kind(
        generator=dict(generator, type='ppcd_mmagic.' + generator['type']),
        discriminator=DISCRIMINATOR,
        data_preprocessor=dict(type='DataPreprocessor'),
        noise_size=NOISE,
        num_classes=CLASSES,
    ).double()
    with torch.no_grad():
        for _, mask in named_masks(model.generator):
            mask.weight.uniform_(-1, 1)
            mask.prune(mask.channels // 3)
    return model


def losses():
    torch.manual_seed(1)
    return {
        name: MODELS.build(copy.deepcopy(config)).double()
        for name, config in LOSSES.items()
    }


def hook_of(**changes):
    return HOOKS.build(
        dict(type='ExtraLossesHook', **{**copy.deepcopy(LOSSES), **changes})
    )


def wrappers_of(model, kind=OptimWrapper, counts=1):
    return OptimWrapperDict(
        **{
            name: kind(
                torch.optim.SGD(getattr(model, name).parameters(), 0.01),
                accumulative_counts=counts,
            )
            for name in ('generator', 'discriminator')
        }
    )


def trained(model, wrappers, hook=None, iterations=4, see_teacher=None):
    """Logs of the last iteration."""
    MessageHub.get_instance('extra_losses')
    runner = SimpleNamespace(model=model, optim_wrapper=wrappers)
    for wrapper in wrappers.values():
        wrapper.initialize_count_status(model, 0, iterations)
    if hook:
        torch.manual_seed(1)  # the teacher of `losses`
        hook.before_train(runner)
        if hook.teacher:
            hook.teacher.double()
        if see_teacher:
            see_teacher(hook.teacher)
    torch.manual_seed(2)
    data = batch((0, 3, 2, 2))
    for iteration in range(iterations):
        MessageHub.get_current_instance().update_info('iter', iteration)
        if hook:
            hook.before_train_iter(runner, iteration)
        logs = model.train().train_step(copy.deepcopy(data), wrappers)
        if hook:
            hook.after_train_iter(runner, iteration, outputs=logs)
    if hook:
        hook.after_train(runner)
    return logs


@pytest.mark.parametrize(
    'kind, counts, models',
    [
        (OptimWrapper, 1, (Foreign, ByHand)),
        (OptimWrapper, 3, (Foreign, ByHand)),
        (Scaled, 2, (Foreign, ByHand)),
        (OptimWrapper, 1, (ForeignHalves, ByHandHalves)),
    ],
)
def test_gradients_are_those_of_the_losses_added_by_hand(kind, counts, models):
    foreign, hand = map(built, models)
    hand.losses = losses()
    logs = trained(
        foreign,
        wrappers_of(foreign, kind, counts),
        hook_of(),
        iterations=2 * counts,
    )
    expected = trained(
        hand, wrappers_of(hand, kind, counts), iterations=2 * counts
    )
    for name, value in hand.state_dict().items():
        torch.testing.assert_close(
            foreign.state_dict()[name], value, rtol=1e-10, atol=1e-10
        )
    for name in ('loss_pp', 'loss_cd', 'loss_gen', 'loss_disc'):
        torch.testing.assert_close(
            logs[name], expected[name], rtol=1e-10, atol=1e-10
        )
    # what is logged keeps no graph
    assert not logs['loss_pp'].requires_grad
    assert not logs['loss_cd'].requires_grad


class InDict(Foreign):
    pack, unpack = staticmethod(lambda image: dict(fake_img=image)), 'fake_img'

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.generator.register_forward_hook(
            lambda module, args, image: self.pack(image)
        )

    def train_discriminator(self, inputs, data_samples, optimizer_wrapper):
        return {}

    def train_generator(self, inputs, data_samples, optimizer_wrapper):
        labels = self.data_sample_to_label(data_samples)
        image = self.generator(self.noise(len(labels)), label=labels)
        for key in (
            (self.unpack,) if isinstance(self.unpack, str) else self.unpack
        ):
            image = image[key]
        loss, log_vars = self.parse_losses(dict(loss_gen=image.mean()))
        optimizer_wrapper.update_params(loss)
        return log_vars


class InTuple(InDict):
    """As some of MMagic's, which give the noise as well."""

    pack, unpack = staticmethod(lambda image: (None, [image, 'noise'])), (1, 0)


@pytest.mark.parametrize('kind', [InDict, InTuple])
def test_images_are_found_in_what_a_generator_gives(kind):
    model = built(kind)
    logs = trained(model, wrappers_of(model), hook_of(), iterations=1)
    assert logs['loss_pp'] > 0 and logs['loss_cd'] > 0


def hooks_in(model):
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in model.modules()
    ]


class WithoutGradient(Foreign):
    """Looks at images aside of its steps."""

    def train_generator(self, inputs, data_samples, optimizer_wrapper):
        labels = self.data_sample_to_label(data_samples)
        with torch.no_grad():
            self.generator(self.noise(len(labels)), label=labels)
        return super().train_generator(inputs, data_samples, optimizer_wrapper)


@pytest.mark.parametrize('kind', [Foreign, WithoutGradient])
def test_nothing_of_the_hook_stays_after_the_training(kind):
    model = built(kind)
    wrappers = wrappers_of(model)
    before = hooks_in(model)
    trained(model, wrappers, hook_of(), iterations=1)
    assert hooks_in(model) == before
    wrapper = wrappers['generator']
    assert 'backward' not in vars(wrapper)
    assert 'update_params' not in vars(wrapper)


def test_images_that_no_loss_used_are_let_go():
    model = built(Foreign)
    seen = []
    model.generator.conv_blocks[0].register_forward_hook(
        lambda module, args, out: seen.append(weakref.ref(out))
    )
    hook = hook_of()
    trained(model, wrappers_of(model), hook, iterations=2)
    hook.before_train_iter(SimpleNamespace(model=model), 2)
    gc.collect()
    assert len(seen) == 8
    assert not any(image() is not None for image in seen)


class Compares(nn.Module):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, student, teacher):
        self.seen.append(
            [
                {
                    size: feature.requires_grad
                    for size, feature in features.items()
                }
                for features in (student, teacher)
            ]
        )
        return 0.25 + 0.0 * sum(map(torch.sum, student.values()))

    def loss_name(self):
        return 'loss_compared'


def test_distillation_is_given_the_student_s_features_and_the_teacher_s(
    monkeypatch,
):
    monkeypatch.setitem(MODELS._module_dict, 'Compares', Compares)
    model = built(Foreign)
    hook = hook_of(distillation_loss=dict(type='Compares'))
    logs = trained(model, wrappers_of(model), hook, iterations=1)
    assert (
        hook.distillation_losses[0].seen
        == [[{8: True, 16: True}, {8: False, 16: False}]] * 2
    )
    assert logs['loss_compared'] == 0.5  # of both passes


def test_several_losses_are_added_of_one_pass_of_the_teacher():
    model = built(Foreign)
    images, targets = [], []
    model.generator.register_forward_hook(
        lambda net, args, out: images.append(out.detach())
    )
    hook = hook_of(
        distillation_loss=[
            dict(type='AttentionDistillationLoss', loss_weight=3.0),
            dict(type='PixelDistillationLoss', loss_weight=0.5),
        ]
    )
    logs = trained(
        model,
        wrappers_of(model),
        hook,
        iterations=1,
        see_teacher=lambda teacher: teacher.generator.register_forward_hook(
            lambda net, args, out: targets.append(out)
        ),
    )
    alone = built(Foreign)
    expected = trained(alone, wrappers_of(alone), hook_of(), iterations=1)
    assert logs['loss_cd'] == pytest.approx(expected['loss_cd'])
    # of the last two passes; the discriminator's and an unused one come first
    assert len(targets) == 2
    assert logs['loss_pixel'] == pytest.approx(
        sum(
            0.5 * float((image - target).abs().mean())
            for image, target in zip(images[-2:], targets)
        )
    )


def test_losses_that_ask_for_a_discriminator_are_refused():
    with pytest.raises(
        PPCDError,
        match='compares discriminator features, but ExtraLossesHook has only '
        'features and images',
    ):
        hook_of(distillation_loss=dict(type='DiscriminatorFeatureLoss'))


class TwoImages(InDict):
    pack, unpack = staticmethod(lambda image: (image, image)), (0,)


def test_images_are_compared_where_a_generator_gives_one_tensor():
    hook = hook_of(distillation_loss=dict(type='PixelDistillationLoss'))
    model = built(InTuple)
    assert trained(model, wrappers_of(model), hook, 1)['loss_pixel'] > 0
    model = built(TwoImages)
    with pytest.raises(PPCDError, match='gives 2 tensors instead of one'):
        trained(model, wrappers_of(model), hook, iterations=1)


def test_log_says_once_what_is_compared(monkeypatch):
    said = []
    monkeypatch.setattr(
        MMLogger.get_instance('extra_losses_log'),
        'log',
        lambda level, text: said.append(text),
    )
    model = built(Foreign)
    trained(model, wrappers_of(model), hook_of(), iterations=3)
    assert [text for text in said if text.startswith('dist')] == [
        'distillation compares features of [8, 16] pixels'
    ]


def test_a_generator_that_draws_its_input_itself_has_no_teacher():
    model = built(Foreign)
    model.run = lambda noise, labels: (
        model.generator(
            lambda size: torch.randn(size).double(),
            num_batches=len(labels),
            label=labels,
        ),
        {},
    )
    with pytest.raises(PPCDError, match='draws its input itself'):
        trained(model, wrappers_of(model), hook_of(), iterations=1)


def test_losses_are_in_the_log_of_a_real_runner(tmp_path):
    """Others read them after the iteration, so that this hook comes first."""
    config = tiny_config(tmp_path, train_cfg__max_iters=2)
    config.model = dict(
        type='SAGAN',
        noise_size=NOISE,
        num_classes=10,
        generator=dict(
            SAGAN, num_classes=10, type='ppcd_mmagic.PPResSAGANGenerator'
        ),
        discriminator=dict(DISCRIMINATOR, num_classes=10),
        data_preprocessor=dict(type='DataPreprocessor'),
    )
    del config.default_hooks['mask_binarization']
    config.custom_hooks = [dict(type='ExtraLossesHook')]
    runner = SafeRunner.from_cfg(config)
    runner.train()
    # scores start at one
    assert runner.message_hub.get_scalar(
        'train/loss_pp'
    ).current() == pytest.approx(1, abs=0.1)


def test_one_optimizer_for_all_gets_the_losses_of_the_generator_once():
    """As of MMagic's BaseEditModel, whose generator is not told apart; L_PP
    is not added to the loss of another part."""
    model = built(Foreign)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.0))
    grads = []
    step = wrapper.step

    def noted(**kwargs):
        grads.append(mask.weight.grad)
        step(**kwargs)

    wrapper.step = noted
    mask = next(mask for _, mask in named_masks(model.generator))
    hook = hook_of(teacher=None)
    trained(
        model,
        OptimWrapperDict(generator=wrapper, discriminator=wrapper),
        hook,
        iterations=1,
    )
    assert grads[0] is None and grads[1] is not None


def test_a_loss_that_the_model_has_itself_is_not_added_twice():
    model = build_gan(teacher=None)
    with pytest.raises(PPCDError, match='PPCDGAN has the loss loss_pp itself'):
        trained(model, optimizers(model), hook_of(teacher=None))


def test_a_generator_that_is_not_trained_through_its_forward_is_refused():

    class Aside(Foreign):
        def run(self, noise, labels):
            return self.generator.forward(noise, label=labels), {}

    model = built(Aside)
    with pytest.raises(PPCDError, match='does not depend on an output'):
        trained(model, wrappers_of(model), hook_of())


def test_images_made_in_evaluation_mode_are_not_trained_through():

    class Evaluated(Foreign):
        def run(self, noise, labels):
            fake = self.generator.eval()(noise, label=labels)
            self.generator.train()
            return fake, {}

    model = built(Evaluated)
    with pytest.raises(PPCDError, match='forward in training mode'):
        trained(model, wrappers_of(model), hook_of())


def test_what_cannot_be_added_is_refused_before_the_training():
    with pytest.raises(PPCDError, match='nothing to add'):
        hook_of(pruning_loss=None, teacher=None)
    model = built(Foreign)
    only = OptimWrapperDict(
        discriminator=OptimWrapper(
            torch.optim.SGD(model.discriminator.parameters(), 0.1)
        )
    )
    with pytest.raises(PPCDError, match='No optimizer holds.* generator'):
        hook_of().before_train(SimpleNamespace(model=model, optim_wrapper=only))
    two = nn.Module()
    two.generators = nn.ModuleDict(
        dict(a=model.generator, b=built(Foreign).generator)
    )
    with pytest.raises(PPCDError, match='one teacher, but generators.a, '):
        hook_of().before_train(SimpleNamespace(model=two, optim_wrapper=only))


def test_the_teacher_s_weights_are_needed_by_a_training_alone():
    """What is trained can be tested where they are not."""
    teacher = dict(copy.deepcopy(LOSSES['teacher']), checkpoint='absent.pth')
    hook = hook_of(teacher=teacher)
    model = built(Foreign)
    with pytest.raises(PPCDError, match='absent.pth'):
        trained(model, wrappers_of(model), hook)
