"""What students of today compute, stored, so that it stays.

``python tests/references.py`` writes ``tests/data``: run it only to add a
reference, never because a test of ``test_references.py`` fails. Weights are
made by NumPy's RandomState from the name of each tensor, so that no version
of torch and no order of construction changes them. All else goes through what
outlives a change of how masks work inside: configs, state dicts, a
generator's images and gradients, and the export.
"""

import copy
import json
import lzma
import os
import os.path as osp
import shutil
import tempfile
import zlib
from types import SimpleNamespace
from typing import Dict, Tuple

import numpy as np
import torch
from conftest import BIGGAN, CLASSES, NOISE, ROOT, SAGAN
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DefaultScope
from runs import checkpoint_of, hooked_runner

from ppcd_mmagic.export import build_student as build_trained
from ppcd_mmagic.export import export_student, save_export
from ppcd_mmagic.registry import HOOKS, MODELS

DATA = osp.join(osp.dirname(osp.abspath(__file__)), 'data')
OLD_RUN = osp.join(DATA, 'old_run')
OLD_ITERATIONS = 40
STUDENTS = {
    f'{family}/{masks}': dict(config, residual_masks=masks)
    for family, config in dict(sagan=SAGAN, biggan=BIGGAN).items()
    for masks in ('independent', 'shared')
}


def random_of(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def value_of(name: str, shape: Tuple[int, ...]) -> np.ndarray:
    """A tensor of a student after some training, by its name."""
    random, kind = random_of(name), name.rsplit('.', 1)[-1]
    normal = random.randn(*shape)
    if name.endswith('mask.weight') or kind == 'running_var':
        return random.uniform(0.3, 1.3, shape)
    if kind in ('bias', 'running_mean'):
        return 0.3 * normal
    if 'embedding' in name and 'shared' not in name:
        return normal + ('weight_embedding' in name)
    if kind == 'gamma':
        return np.full(shape, 0.7)
    return normal / np.sqrt(max(1, np.prod(shape[1:])))


def state_of(student: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """A state dict for a student: half of each mask pruned, and the singular
    vectors of spectral norm those of the weights."""
    shapes = {
        key: tuple(value.shape) for key, value in student.state_dict().items()
    }
    state = {}
    for key, shape in shapes.items():
        prefix, kind = key.rsplit('.', 1)
        if kind == 'pruned':
            scores = value_of(f'{prefix}.weight', shape)
            values = np.zeros(shape, bool)
            values[scores.argsort()[: shape[0] // 2]] = True
        elif kind == 'num_batches_tracked':
            values = np.array(1)
        elif kind in ('weight_u', 'weight_v', 'u0', 'sv0'):
            weight = f'{prefix}.weight'
            weight += '_orig' if kind.startswith('weight') else ''
            matrix = value_of(weight, shapes[weight])
            left, singular, right = np.linalg.svd(
                matrix.reshape(len(matrix), -1), full_matrices=False
            )
            values = dict(
                weight_u=left[:, 0],
                weight_v=right[0],
                u0=left[None, :, 0],
                sv0=singular[:1],
            )[kind].reshape(shape)
        else:
            values = value_of(key, shape)
        dtype = np.float32 if values.dtype == np.float64 else values.dtype
        state[key] = torch.from_numpy(values.astype(dtype))
    return state


def build_student(name: str) -> torch.nn.Module:
    student = MODELS.build(copy.deepcopy(STUDENTS[name]))
    student.load_state_dict(state_of(student), strict=True)
    return student.eval()


def inputs() -> Tuple[torch.Tensor, torch.Tensor]:
    """Noise and label, an image of each class."""
    noise = random_of('noise').randn(CLASSES, NOISE).astype(np.float32)
    return torch.from_numpy(noise), torch.arange(CLASSES)


def images_of(generator: torch.nn.Module) -> torch.Tensor:
    noise, labels = inputs()
    with torch.no_grad():
        return generator(noise, label=labels)


def scalar_of(images: torch.Tensor) -> torch.Tensor:
    """Something that every pixel has a share in."""
    weight = random_of('pixels').randn(*images.shape).astype(np.float32)
    return (torch.from_numpy(weight) * images).sum()


def score_gradients(student: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """How the scores of all masks move :func:`scalar_of`, by their keys."""
    noise, labels = inputs()
    scores = {
        key: value
        for key, value in student.named_parameters()
        if key.endswith('mask.weight')
    }
    found = torch.autograd.grad(
        scalar_of(student(noise, label=labels)), list(scores.values())
    )
    return dict(zip(scores, found))


def living_channels(student: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """Which inputs and outputs of every convolution reach an image, bool:
    those that :func:`scalar_of` has a gradient with respect to.

    What comes in is taken before anything a mask does to it, and what goes
    out likewise, so that it shows where gates cut.
    """
    noted, handles = {}, []

    def apart(x: torch.Tensor, key: str) -> torch.Tensor:
        noted[key] = x + 0  # the same values, read by nobody else
        noted[key].retain_grad()
        return noted[key]

    for name, conv in student.named_modules():
        if isinstance(conv, torch.nn.Conv2d):
            handles += [
                conv.register_forward_pre_hook(
                    lambda _, args, name=name: apart(args[0], f'{name}/in'),
                    prepend=True,
                ),
                conv.register_forward_hook(
                    lambda _, args, out, name=name: apart(out, f'{name}/out'),
                    prepend=True,
                ),
            ]
    noise, labels = inputs()
    scalar_of(student(noise, label=labels)).backward()
    for handle in handles:
        handle.remove()
    student.zero_grad()
    return {
        key: (value.grad != 0).any(0).flatten(1).any(1)
        for key, value in noted.items()
    }


def shapes_of(state: Dict[str, torch.Tensor]) -> Dict[str, str]:
    return {
        key: ' x '.join(map(str, value.shape)) for key, value in state.items()
    }


def shapes_after_removal(name: str) -> Dict[str, str]:
    """Those of the state dict, once :class:`ShrinkHook` has cut it."""
    student = build_student(name)
    runner = SimpleNamespace(
        iter=0,
        model=torch.nn.ModuleDict(dict(generator=student)),
        optim_wrapper=OptimWrapperDict(
            generator=OptimWrapper(torch.optim.Adam(student.parameters()))
        ),
    )
    HOOKS.build(dict(type='ShrinkHook', interval=1)).after_train_iter(runner, 0)
    return shapes_of(student.state_dict())


def exported(name: str, folder: str):
    """The export of a student."""
    student = build_student(name)
    path = osp.join(folder, 'student.pth')
    state = {f'generator.{k}': v for k, v in student.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    config = Config(
        dict(
            model=dict(
                type='PPCDGAN',
                num_classes=CLASSES,
                noise_size=NOISE,
                generator=STUDENTS[name],
            )
        )
    )
    return export_student(config, path)


def numbers_of(name: str) -> Dict[str, np.ndarray]:
    """Images of a student, and how its scores move them."""
    student = build_student(name)
    gradients = {
        f'{name}:{key}': value.numpy()
        for key, value in score_gradients(student).items()
    }
    return {f'{name}:images': images_of(student).numpy(), **gradients}


def structure_of(name: str, folder: str) -> dict:
    """What lives and what size things have, as JSON keeps it."""
    student = build_student(name)
    return dict(
        living={
            key: ''.join('01'[alive] for alive in value.tolist())
            for key, value in living_channels(student).items()
        },
        built=shapes_of(student.state_dict()),
        removed=shapes_after_removal(name),
        exported=shapes_of(exported(name, folder).generator.state_dict()),
    )


def write_old_run(folder: str) -> Dict[str, np.ndarray]:
    """A training of today: its config, a checkpoint with removed and with
    merely pruned channels, the export of it; and what they draw."""
    runner = hooked_runner(
        osp.join(folder, 'run'),
        dict(
            type='MaskBinarizationHook',
            alpha=0.6,
            schedule='linear',
            begin=1,
            end=OLD_ITERATIONS,
        ),
        dict(type='ShrinkHook', interval=25),
        iterations=OLD_ITERATIONS,
        **{
            'model.generator.base_channels': 4,
            'model.generator.residual_masks': 'independent',
            'model.ema_config.momentum': 0.1,
            'optim_wrapper.generator.optimizer.lr': 5e-3,
            'default_hooks.checkpoint.interval': OLD_ITERATIONS,
        },
    )
    runner.train()
    checkpoint = checkpoint_of(osp.join(folder, 'run'), OLD_ITERATIONS)
    config = runner.cfg.copy()
    config.work_dir = 'work_dirs/old'
    config.model.teacher.checkpoint = 'checkpoints/biggan_digits_16.pth'
    # no trace of the machine it was made on
    checkpoint['meta'].update(cfg=config.pretty_text, hook_msgs=dict())
    checkpoint['message_hub']['runtime_info'] = {
        key: value
        for key, value in checkpoint['message_hub']['runtime_info'].items()
        if not isinstance(value, str)
    }
    path = osp.join(folder, f'iter_{OLD_ITERATIONS}.pth')
    torch.save(checkpoint, path)
    os.makedirs(OLD_RUN)
    config.dump(osp.join(OLD_RUN, 'config.py'))
    with (
        open(path, 'rb') as source,
        lzma.open(
            osp.join(OLD_RUN, 'checkpoint.pth.xz'), 'wb', preset=9
        ) as target,
    ):
        shutil.copyfileobj(source, target)
    save_export(export_student(config, path), osp.join(OLD_RUN, 'export'))
    return {'old_run:images': old_images(build_trained(config, path)).numpy()}


def old_checkpoint(folder: str) -> str:
    """The stored checkpoint, unpacked into a folder."""
    path = osp.join(folder, f'iter_{OLD_ITERATIONS}.pth')
    with (
        lzma.open(osp.join(OLD_RUN, 'checkpoint.pth.xz')) as source,
        open(path, 'wb') as target,
    ):
        shutil.copyfileobj(source, target)
    return path


def old_images(generator: torch.nn.Module) -> torch.Tensor:
    noise = random_of('old_run').randn(5, 24).astype(np.float32)
    with torch.no_grad():
        return generator(
            torch.from_numpy(noise), label=torch.tensor([0, 3, 5, 8, 9])
        )


def main() -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    os.chdir(ROOT)
    with (
        tempfile.TemporaryDirectory() as folder,
        DefaultScope.overwrite_default_scope('ppcd_mmagic'),
    ):
        numbers = write_old_run(folder)
        for name in STUDENTS:
            numbers.update(numbers_of(name))
        structure = {name: structure_of(name, folder) for name in STUDENTS}
    np.savez_compressed(osp.join(DATA, 'references.npz'), **numbers)
    with open(osp.join(DATA, 'references.json'), 'w') as file:
        json.dump(structure, file, indent=1)


if __name__ == '__main__':
    main()
