"""Small GANs, their steps, and the losses of a step by hand in float64."""

import copy
from types import SimpleNamespace
from typing import Optional

import torch
import torch.nn as nn
from conftest import CLASSES, NOISE, SAGAN, TEACHER
from mmagic.structures import DataSample
from mmengine import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor

from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.registry import MODELS

DISCRIMINATOR = dict(
    type='ProjDiscriminator',
    input_scale=16,
    num_classes=CLASSES,
    base_channels=4,
    channels_cfg=[2, 2],
    downsample_cfg=[True, False],
    with_spectral_norm=False,
)
HINGE = dict(type='GANLoss', gan_type='hinge')
R1 = dict(
    type='R1GradientPenaltyComps',
    loss_weight=0.3,
    norm_mode='HWC',
    data_info=dict(discriminator='disc', real_data='real_imgs'),
)


def build_gan(**changes):
    torch.manual_seed(0)
    return MODELS.build(
        {
            **copy.deepcopy(
                dict(
                    type='PPCDGAN',
                    num_classes=CLASSES,
                    noise_size=NOISE,
                    data_preprocessor=dict(type='DataPreprocessor'),
                    generator=SAGAN,
                    discriminator=DISCRIMINATOR,
                    teacher=dict(type='BigGANTeacher', generator=TEACHER),
                    pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
                    ema_config=dict(type='ExponentialMovingAverage'),
                )
            ),
            **changes,
        }
    )


def trained_gan(**changes):
    """A GAN as after some training, in double precision: attention at work,
    scores of either sign, channels pruned, and a discriminator whose scores
    lie on both sides of the hinge."""
    model = build_gan(**changes).double().train()
    with torch.no_grad():
        for name, parameter in model.generator.named_parameters():
            if name.endswith('.mask.weight'):
                parameter.uniform_(-0.3, 1)
        for net in (model.generator, model.teacher and model.teacher.generator):
            for name, parameter in net.named_parameters() if net else ():
                if name.endswith('gamma'):
                    parameter.fill_(0.8)
        model.discriminator.decision.bias.fill_(0.2)
        model.discriminator.proj_y.weight.mul_(0.5)
        model.discriminator.decision.weight.mul_(0.5)
    for _, mask in named_masks(model.generator):
        mask.prune(int(0.4 * mask.channels))
    # the pictures come in single precision
    model.data_preprocessor.register_forward_hook(_double_images)
    noise_fn = model.noise_fn
    model.noise_fn = lambda *a, **k: noise_fn(*a, **k).double()
    return model


def _double_images(preprocessor, args, data):
    samples = data['data_samples']
    samples.gt_img = samples.gt_img.double()
    return data


def batch(labels=(0, 1, 2, 3)):
    samples = []
    for label in labels:
        sample = DataSample(gt_img=torch.randint(0, 255, (3, 16, 16)))
        sample.set_gt_label(label)
        samples.append(sample)
    images = [sample.gt_img for sample in samples]
    return dict(inputs=images, data_samples=samples)


def optimizers(model, lr=1e-3):
    return OptimWrapperDict(
        **{
            name: OptimWrapper(
                torch.optim.SGD(getattr(model, name).parameters(), lr=lr)
            )
            for name in ('generator', 'discriminator')
        }
    )


def train_step(model, data=None, iteration=0, **kwargs):
    MessageHub.get_current_instance().update_info('iter', iteration)
    model.train()
    return model.train_step(data or batch(), optimizers(model, **kwargs))


@MODEL_WRAPPERS.register_module()
class StandInForDDP(nn.Module):
    """Wraps a network as MMEngine's data-parallel classes do."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class Calls(list):
    """What a network was called with: (noise or images, labels) of each."""

    def __init__(self, network: Optional[nn.Module]) -> None:
        super().__init__()
        if network is not None:
            network.register_forward_pre_hook(self.note, with_kwargs=True)

    def note(self, network, args, kwargs):
        self.append((args[0].detach().clone(), kwargs['label'].clone()))


def step_by_hand(model, generator_losses, data, real=None, lr=0.01):
    """One step of ``model``, and the same by hand on copies of its networks.

    Args:
        generator_losses (callable): From the networks, noise, labels, and the
            labels that the teacher got, to the images and a dict of losses.
        data (dict): A batch.
        real (callable): From the networks, data, noise and labels to what the
            discriminator takes for real. Defaults to :func:`pictures`.
        lr (float): Of SGD, for both networks.

    Returns:
        SimpleNamespace: ``logs`` of the model and ``losses`` by hand;
        ``updates`` of the model's parameters and ``expected`` ones by name.
    """
    teacher = model.teacher and model.teacher.generator
    hand = SimpleNamespace(
        generator=copy.deepcopy(model.generator),
        discriminator=copy.deepcopy(model.discriminator),
        teacher=copy.deepcopy(teacher),
    )
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    students, teachers = Calls(model.generator), Calls(teacher)
    logs = train_step(model, data, lr=lr)
    updates = {n: p.detach() - before[n] for n, p in model.named_parameters()}

    labels = torch.stack([s.gt_label.label for s in data['data_samples']])[:, 0]
    with torch.no_grad():
        fake = hand.generator(students[0][0], label=labels)
    losses = discriminator_losses(
        hand.discriminator,
        (real or pictures)(hand, data, students[0][0], labels),
        fake,
        labels,
        with_r1=model.disc_auxiliary_losses is not None,
    )
    expected = descend(hand.discriminator, losses, lr, 'discriminator')
    fake, more = generator_losses(
        hand, students[1][0], labels, teachers[-1][1] if teachers else None
    )
    more['loss_adv'] = -hand.discriminator(fake, label=labels).mean()
    expected.update(descend(hand.generator, more, lr, 'generator'))
    return SimpleNamespace(
        logs=logs, losses={**losses, **more}, updates=updates, expected=expected
    )


def pictures(hand, data, noise, labels):
    """What the discriminator takes for real: the data, in [-1, 1]."""
    return torch.stack(data['inputs']).double() / 127.5 - 1


def discriminator_losses(discriminator, real, fake, labels, with_r1):
    """Hinge of either kind, and 0.3 times R1: mean over the batch of the
    squared slope of an image's score."""
    real = real.clone().requires_grad_()
    score = discriminator(real, label=labels)
    (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
    of_fake = discriminator(fake, label=labels)
    losses = dict(
        loss_disc_real=sum(max(1 - s, 0 * s) for s in score[:, 0]) / len(real),
        loss_disc_fake=sum(max(1 + s, 0 * s) for s in of_fake[:, 0])
        / len(fake),
    )
    if with_r1:
        losses['loss_r1_gp'] = 0.3 * (slope**2).sum() / len(real)
    return losses


def descend(network: nn.Module, losses: dict, lr: float, prefix: str) -> dict:
    """One step of gradient descent, in place; the updates by name."""
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(
        sum(losses.values()), list(parameters.values()), allow_unused=True
    )
    updates = {}
    with torch.no_grad():
        for (name, parameter), gradient in zip(parameters.items(), gradients):
            update = (
                torch.zeros_like(parameter)
                if gradient is None
                else (-lr * gradient)
            )
            parameter += update
            updates[f'{prefix}.{name}'] = update
    return updates


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Zagoruyko and Komodakis: of the maps of two features, per sample."""
    maps = []
    for feature in (student, teacher):
        energy = (feature * feature).sum(1).reshape(len(feature), -1)
        maps.append(energy / (energy**2).sum(1, keepdim=True) ** 0.5)
    return ((maps[0] - maps[1]) ** 2).sum(1) ** 0.5


def block_outputs(network: nn.Module, run, names=('1', '2')) -> list:
    """What blocks of a network give while ``run()`` runs, and its result."""
    seen = []
    handles = [
        network.conv_blocks[int(name)].register_forward_hook(
            lambda block, args, out: seen.append(out)
        )
        for name in names
    ]
    result = run()
    for handle in handles:
        handle.remove()
    return seen, result


def pruning_by_hand(masks) -> Tensor:
    """Mean over the masks of the mean size of their living scores."""
    return sum(
        sum(
            abs(score)
            for score, dead in zip(mask.weight, mask.pruned)
            if not dead
        )
        / len(mask.weight)
        for mask in masks
    ) / len(masks)


def assert_same_step(step, at_least: float = 1e-4) -> None:
    """Same losses in the logs, and every parameter moved alike."""
    logged = {
        k: float(v) for k, v in step.logs.items() if k.startswith('loss_')
    }
    assert logged.keys() == step.losses.keys()
    for name, value in step.losses.items():
        assert abs(logged[name] - float(value)) <= 1e-9 + 1e-6 * abs(value), (
            name
        )
    trained = {n for n in step.updates if not n.startswith('generator_ema')}
    assert trained == step.expected.keys()
    for name in trained:
        torch.testing.assert_close(
            step.updates[name],
            step.expected[name],
            rtol=1e-6,
            atol=1e-12,
            msg=lambda text, name=name: f'{name}: {text}',
        )
    for network in ('generator', 'discriminator'):
        moved = max(
            float(update.abs().max())
            for name, update in step.expected.items()
            if name.startswith(f'{network}.')
        )
        assert moved > at_least, network
