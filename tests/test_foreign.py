"""Models of MMagic with masks, by config alone: configs/foreign/ on a few real
pictures, from the first iteration to an export that MMagic opens."""

import json
import os.path as osp
import runpy
import shutil
from collections import OrderedDict
from glob import glob
from itertools import count

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmagic.apis import init_model
from mmagic.models.editors.biggan import BigGANDeepGenerator
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tool_calls import call_tool

from ppcd_mmagic.engine import SafeRunner, config_problems, find_problems
from ppcd_mmagic.export import export_student, save_export
from ppcd_mmagic.generators import example_inputs, generators_of

_serial = count()
DIGITS = {
    'dataset': dict(
        type='ppcd_mmagic.DigitsDataset',
        size=32,
        pipeline=[dict(type='PackInputs')],
    ),
    'model.discriminator_steps': 1,
    'model.generator.generator.base_channels': 8,
    'model.discriminator.base_channels': 8,
}
TRANSLATION = {
    'model.generator.generator.base_channels': 8,
    'model.generator.input_shape': (3, 32, 32),
    'model.discriminator.base_channels': 8,
    'model.discriminator.num_conv': 2,
}
EDITING = {
    'model.generator.generator.mid_channels': 8,
    'model.generator.generator.num_blocks': 2,
    'train_dataloader.dataset.ann_file': '',
    'train_dataloader.dataset.data_prefix': dict(img='lq', gt='gt'),
    'train_dataloader.dataset.pipeline.3.gt_patch_size': 48,
}
# what makes them small
CONFIGS = dict(
    dcgan_mnist_64={
        'model.noise_size': 16,
        'model.generator.generator.base_channels': 32,
        'model.discriminator.base_channels': 8,
        'train_dataloader.dataset.data_root': 'digits',
    },
    sngan_proj_cifar10_32=DIGITS,
    masked_biggan_cifar10_32={
        **DIGITS,
        'model.noise_size': 16,
        'model.generator.generator.noise_size': 16,
    },
    masked_sagan_imagenet_128={
        'dataset': dict(
            type='ppcd_mmagic.DigitsDataset',
            size=128,
            pipeline=[dict(type='PackInputs')],
        ),
        'model.num_classes': 10,
        'model.generator.generator.num_classes': 10,
        'model.generator.generator.base_channels': 4,
        'model.discriminator.num_classes': 10,
        'model.discriminator.base_channels': 8,
        'default_hooks.extra_losses.teacher.checkpoint': 'teacher.pth',
        'default_hooks.extra_losses.teacher.generator.num_classes': 10,
        'default_hooks.extra_losses.teacher.generator.base_channels': 4,
    },
    pix2pix_facades_256={
        **TRANSLATION,
        'model.generator.generator.num_down': 5,
        'train_dataloader.dataset.data_root': 'pairs',
        'train_dataloader.dataset.pipeline.1.scale': (36, 36),
        'train_dataloader.dataset.pipeline.2.crop_size': (32, 32),
    },
    cyclegan_facades_256={
        **TRANSLATION,
        'model.generator.generator.num_blocks': 2,
        'train_dataloader.dataset.data_root': 'unpaired',
        'train_dataloader.dataset.pipeline.2.transforms.0.scale': (36, 36),
        'train_dataloader.dataset.pipeline.2.transforms.1.crop_size': (32, 32),
    },
    edsr_x2_div2k={**EDITING, 'train_dataloader.dataset.data_root': 'x2'},
    msrresnet_x4_div2k={**EDITING, 'train_dataloader.dataset.data_root': 'x4'},
    esrgan_psnr_x4_div2k={
        **EDITING,
        'model.generator.generator.growth_channels': 4,
        'train_dataloader.dataset.data_root': 'x4',
    },
)


def deep_teacher():
    """BigGAN-deep of 128 px and ten classes, narrow; what its spectral norm
    divides by is first found in training."""
    torch.manual_seed(0)
    teacher = BigGANDeepGenerator(
        128,
        noise_size=128,
        num_classes=10,
        base_channels=4,
        sn_style='torch',
        auto_sync_bn=False,
    ).train()
    with torch.no_grad():
        for _ in range(8):
            teacher(torch.randn(2, 128), label=torch.tensor([1, 2]))
    return teacher


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """Photographs of scikit-image and digits of scikit-learn, in the folders
    that the data sets of MMagic look for."""
    from skimage import data
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp('pictures')
    torch.save(
        dict(state_dict=deep_teacher().state_dict()), root / 'teacher.pth'
    )

    def write(name, image, size):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(image, (size, size)))

    for index, digit in enumerate(load_digits().images[:8]):
        write(f'digits/{index}.png', (digit * 15).astype(np.uint8), 64)
    photos = [data.astronaut(), data.chelsea(), data.coffee()]
    for index, photo in enumerate(photos):
        photo = cv2.resize(photo[..., ::-1], (128, 128))
        edges = cv2.cvtColor(cv2.Canny(photo, 100, 200), cv2.COLOR_GRAY2BGR)
        write(f'unpaired/trainA/{index}.png', photo, 64)
        write(f'unpaired/trainB/{index}.png', edges, 64)
        pair = root / 'pairs' / 'train' / f'{index}.png'
        pair.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(pair), np.hstack([photo, edges]))
        for scale in (2, 4):
            write(f'x{scale}/gt/{index}.png', photo, 128)
            write(f'x{scale}/lq/{index}.png', photo, 128 // scale)
    return root


def config_of(name, pictures, work_dir, iterations, hooks=(), **options):
    config = Config.fromfile(f'{ROOT}/configs/foreign/{name}.py')
    assert not config_problems(config)
    for key in list(config):
        if key.startswith(('val_', 'test_')):
            config.pop(key)
    overrides = {**CONFIGS[name], **options}
    for key in (
        'train_dataloader.dataset.data_root',
        'default_hooks.extra_losses.teacher.checkpoint',
    ):
        if key in overrides:
            overrides[key] = str(pictures / overrides[key])
    dataset = overrides.pop('dataset', None)
    if dataset:
        config.train_dataloader.dataset = dataset
    config.merge_from_dict(overrides)
    config.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False
    )
    # as in the config, but for a training of a few iterations
    config.train_cfg.max_iters = iterations
    config.custom_hooks = [*hooks]  # no pictures
    config.default_hooks.mask_binarization.update(begin=0, end=4)
    config.default_hooks.checkpoint = dict(
        type=config.default_hooks.checkpoint.type, interval=2, by_epoch=False
    )
    config.default_hooks.logger.interval = 1
    config.visualizer = dict(type='Visualizer', vis_backends=[])
    config.work_dir = str(work_dir)
    config.experiment_name = f'foreign_{next(_serial)}'
    config.log_level = 'ERROR'
    return config


def images_of(generator):
    *args, kwargs = example_inputs(generator)
    with torch.no_grad():
        return generator.eval()(*args, **kwargs)


def sizes(generators):
    return sum(
        p.numel() for each in generators for p in each.module.parameters()
    )


# what tools/prepare_photographs.py is for
PHOTOGRAPHS = ('edsr_x2_photographs', 'pix2pix_photographs')
# generators by domain, one optimizer for all, an EMA copy
SHRUNK = ('cyclegan_facades_256', 'edsr_x2_div2k', 'masked_biggan_cifar10_32')


@pytest.mark.parametrize(
    'name, hooks',
    [
        *((name, []) for name in CONFIGS),
        *((name, [dict(type='ShrinkHook', interval=2)]) for name in SHRUNK),
    ],
)
def test_a_model_of_mmagic_is_pruned_resumed_and_exported(
    name, hooks, pictures, tmp_path, monkeypatch
):
    SafeRunner.from_cfg(config_of(name, pictures, tmp_path, 2, hooks)).train()
    config = config_of(name, pictures, tmp_path, 6, hooks, resume=True)
    runner = SafeRunner.from_cfg(config)
    runner.train()
    assert runner.iter == 6
    assert runner.message_hub.get_scalar('train/sparsity').current() > 0.35
    trained = generators_of(runner.model)
    if hooks:
        assert sizes(trained) < 0.9 * sizes(
            generators_of(
                SafeRunner.from_cfg(
                    config_of(name, pictures, tmp_path, 2)
                ).model
            )
        )
    for generator in trained:
        logged = f'_{generator.short_name}' if generator.short_name else ''
        assert (
            0
            < runner.message_hub.get_scalar(f'train/loss_pp{logged}').current()
            < 0.7
        )

    config.dump(str(tmp_path / 'config.py'))
    with monkeypatch.context() as context:
        # a tool has no scope but the one that it begins
        context.setattr(DefaultScope, '_instance_dict', OrderedDict())
        call_tool(
            context, 'export', tmp_path / 'config.py', tmp_path / 'iter_6.pth'
        )
    summary = json.loads((tmp_path / 'export' / 'summary.json').read_text())
    before, after = summary['before'], summary['after']
    assert after['multiply_adds'] < 0.6 * before['multiply_adds']

    opened = init_model(
        str(tmp_path / 'export' / 'config.py'),
        str(tmp_path / 'export' / 'generator.pth'),
        device='cpu',
    )
    assert type(opened) is type(runner.model)
    assert not any('discriminator' in key for key in opened.state_dict())
    found = generators_of(opened)
    assert sizes(found) == after['parameters']
    assert [each.name for each in found] == [each.name for each in trained]
    for ours, theirs in zip(trained, found):
        torch.testing.assert_close(
            images_of(theirs.module),
            images_of(ours.both[-1]),
            rtol=0,
            atol=1e-5,
        )


@pytest.mark.parametrize('name', ['edsr_x2_div2k', 'pix2pix_facades_256'])
def test_random_crops_and_flips_are_the_same_when_resumed(
    name, pictures, tmp_path
):
    """Read in the training's own process, between its iterations."""
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    SafeRunner.from_cfg(config_of(name, pictures, whole, 4)).train()
    resumed.mkdir()
    shutil.copy(whole / 'iter_2.pth', resumed)
    (resumed / 'last_checkpoint').write_text('iter_2.pth')
    torch.rand(3)  # another state than the run had here
    SafeRunner.from_cfg(
        config_of(name, pictures, resumed, 4, resume=True)
    ).train()
    first, second = (
        torch.load(folder / 'iter_4.pth', weights_only=False)['state_dict']
        for folder in (whole, resumed)
    )
    different = [k for k in first if not torch.equal(first[k], second[k])]
    assert not different


def test_every_config_is_trained_here():
    found = {
        osp.basename(path).removesuffix('.py')
        for path in glob(osp.join(ROOT, 'configs', 'foreign', '*.py'))
    }
    assert found == {
        *CONFIGS,
        *PHOTOGRAPHS,
        *(f'{name}_dense' for name in PHOTOGRAPHS),
    }


def test_the_student_of_imagenet_learns_from_biggan_deep(pictures, tmp_path):
    """At full depth and resolution, all sizes that both have."""
    config = Config.fromfile(
        f'{ROOT}/configs/ppcd_gan/ppcd_biggan_deep_128_alpha06.py'
    )
    config.merge_from_dict(
        {
            'model.num_classes': 10,
            'model.generator.num_classes': 10,
            'model.generator.base_channels': 4,
            'model.discriminator.num_classes': 10,
            'model.discriminator.base_channels': 8,
            'model.teacher.checkpoint': str(pictures / 'teacher.pth'),
            'model.teacher.generator.num_classes': 10,
            'model.teacher.generator.base_channels': 4,
            'train_dataloader.dataset': dict(
                CONFIGS['masked_sagan_imagenet_128']['dataset'], _delete_=True
            ),
            'train_cfg.max_iters': 1,
            'work_dir': str(tmp_path),
        }
    )
    config.train_dataloader.update(
        batch_size=2, num_workers=0, persistent_workers=False
    )
    for key in list(config):
        if key.startswith(('val_', 'test_')):
            config.pop(key)
    del config.default_hooks.checkpoint, config.default_hooks.visualization
    config.default_hooks.mask_binarization.update(begin=0, end=1)
    runner = SafeRunner.from_cfg(config)
    runner.train()
    (log,) = tmp_path.glob('*/*.log')
    assert 'compares features of [8, 16, 32, 64, 128] pixels' in log.read_text()
    # five distances of maps of norm 1, weighed 10
    assert (
        0
        < runner.message_hub.get_scalar('train/loss_cd').current()
        < 10 * 5 * 2**0.5
    )


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """What tools/prepare_photographs.py writes, of three photographs."""
    out = tmp_path_factory.mktemp('photographs')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(osp.join(ROOT, 'tools'))
        import prepare_photographs

        patch.setattr(prepare_photographs, 'TRAIN', ('coins.png', 'moon.png'))
        patch.setattr(prepare_photographs, 'TEST', ('camera.png',))
        patch.setattr('sys.argv', ['prepare', '--out', str(out)])
        prepare_photographs.main()
    return out


def test_prepared_photographs_fit_the_tasks(photographs):
    assert len(list(photographs.glob('train/gt/coins_*'))) == 2 * 3
    for path in photographs.glob('*/gt/*.png'):
        split, name = path.parts[-3], path.name
        photo = cv2.imread(str(path)).astype(float)
        half = cv2.imread(str(photographs / split / 'lq' / name))
        assert (
            np.abs(
                cv2.resize(
                    photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
                )
                - half
            ).mean()
            < 4
        )
        pair = cv2.imread(str(photographs / 'pairs' / split / name))
        first, made = np.split(pair.astype(float), 2, axis=1)
        assert (first == photo).all() and set(np.unique(made)) == {0.0, 255.0}
        # error diffusion keeps the brightness, where there is room for it
        assert made.mean() == pytest.approx(photo.mean(), abs=4)


@pytest.mark.parametrize('name', PHOTOGRAPHS)
def test_models_of_the_photographs_train(
    name, photographs, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(osp.join(ROOT, 'tools'))
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'photographs').symlink_to(photographs)
    monkeypatch.chdir(tmp_path)
    dense, config = (
        Config.fromfile(f'{ROOT}/configs/foreign/{name}{suffix}.py')
        for suffix in ('_dense', '')
    )
    for each in (dense, config):
        assert not config_problems(each) and not find_problems(each)
    assert dense.train_cfg == config.train_cfg
    assert dense.train_dataloader == config.train_dataloader

    config.train_cfg.update(max_iters=2, val_interval=2)
    config.default_hooks.mask_binarization.update(begin=0, end=2)
    config.update(
        work_dir='run',
        experiment_name=f'{name}_{next(_serial)}',
        log_level='ERROR',
    )
    runner = SafeRunner.from_cfg(config)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars['train/sparsity'].current() == pytest.approx(0.5, abs=0.02)
    if 'edsr' in name:
        assert 5 < scalars['val/PSNR'].current() < 40
        assert_tested_alike(config, scalars['val/PSNR'].current())


def assert_tested_alike(config, psnr):
    """By what tools/test.py does with the export."""
    save_export(export_student(config, 'run/iter_2.pth', 2), 'export')
    exported = Config.fromfile('export/config.py')
    exported.update(work_dir='tested', load_from='export/generator.pth')
    runner = SafeRunner.from_cfg(exported)
    runner.register_hook(
        runpy.run_path(f'{ROOT}/tools/test.py')['SaveMetrics']('found.json')
    )
    runner.test()
    with open('found.json') as file:
        assert json.load(file)['PSNR'] == pytest.approx(psnr, abs=1e-3)
