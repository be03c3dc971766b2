"""Short trainings in double precision that prune and shrink."""

import copy
from unittest.mock import Mock

import torch
from conftest import CLASSES, NOISE, STUDENTS, every_class
from gans import build_gan
from mmagic.structures import DataSample
from mmengine import Config, MessageHub
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import get_state_dict, load_state_dict

from ppcd_mmagic.export import export_student
from ppcd_mmagic.registry import HOOKS

ITERATIONS, INTERVAL = 14, 3
MASKING = dict(
    type='MaskBinarizationHook', alpha=0.6, schedule='linear', begin=1, end=10
)
SHRINKING = dict(type='ShrinkHook', interval=INTERVAL)


class Prepared(torch.nn.Module):
    """Takes the place of the preprocessor, which casts to single."""

    def forward(self, data, training=False):
        return data


def adam(module):
    return OptimWrapper(
        torch.optim.Adam(module.parameters(), lr=2e-3, betas=(0.5, 0.9))
    )


class Run:
    """As much of a runner as training needs.

    Args:
        model (nn.Module): Maybe in distributed wrappers.
        optim_wrapper (OptimWrapper | OptimWrapperDict): Its optimizers.
        *hooks (dict): Their configs.
    """

    def __init__(self, model, optim_wrapper, *hooks):
        self.model = model
        self.optim_wrapper = optim_wrapper
        self.hooks = [HOOKS.build(copy.deepcopy(hook)) for hook in hooks]
        self.iter, self.max_iters = 0, ITERATIONS
        self.visualizer = Mock()
        self.message_hub = MessageHub.get_instance('test_shrinking')
        for hook in self.hooks:
            hook.before_run(self)
            hook.before_train(self)

    @property
    def network(self):
        """The model out of its wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def data(self):
        labels = torch.randint(CLASSES, (6,))
        sample = DataSample(gt_img=torch.rand(6, 3, 16, 16) * 2 - 1)
        sample.set_gt_label(labels)
        return dict(inputs=sample.gt_img, data_samples=sample)

    def train(self, until=ITERATIONS):
        """Losses of each iteration."""
        self.model.train()
        losses = []
        while self.iter < until:
            MessageHub.get_current_instance().update_info('iter', self.iter)
            torch.manual_seed(self.iter)
            logs = self.model.train_step(self.data(), self.optim_wrapper)
            losses.append([float(logs[key]) for key in sorted(logs)])
            for hook in self.hooks:
                hook.after_train_iter(self, self.iter)
            self.iter += 1
        return torch.tensor(losses)

    def checkpoint(self):
        return copy.deepcopy(
            dict(
                state_dict=get_state_dict(self.network),
                optimizer=self.optim_wrapper.state_dict(),
                iter=self.iter,
            )
        )

    def resume(self, checkpoint):
        for hook in self.hooks:
            hook.after_load_checkpoint(self, checkpoint)
        load_state_dict(self.network, checkpoint['state_dict'], strict=True)
        self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        self.iter = checkpoint['iter']


class GanRun(Run):
    """Of PPCD-GAN, with a student by its name in ``STUDENTS``."""

    def __init__(self, name, *hooks, **generator):
        self.generator_cfg = dict(STUDENTS[name], **generator)
        model = build_gan(generator=self.generator_cfg)
        model.data_preprocessor = Prepared()
        optim_wrapper = OptimWrapperDict(
            generator=adam(model.generator),
            discriminator=adam(model.discriminator),
        )
        super().__init__(self.wrap(model), optim_wrapper, *hooks)

    def wrap(self, model):
        return model

    def images(self, part='generator'):
        noise, labels = every_class(2)
        generator = getattr(self.network, part).eval()
        with torch.no_grad():
            return generator(noise.double(), label=labels)


def exported(state, generator_cfg, path):
    """The export of a training's weights, in the precision of users."""
    state = {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
    }
    torch.save(dict(state_dict=state), path)
    model = dict(
        type='PPCDGAN',
        num_classes=CLASSES,
        noise_size=NOISE,
        generator=generator_cfg,
    )
    return export_student(Config(dict(model=model)), str(path))
