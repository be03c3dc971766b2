"""From a trained, masked student to an ordinary, smaller generator."""
import json
import os
import os.path as osp
from copy import deepcopy
from typing import Dict, List, NamedTuple, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.config import Config
from torch import Tensor

from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.layers import layer_sizes
from ppcd_mmagic.masks import link_readers, named_masks
from ppcd_mmagic.models.feature_tap import FeatureTap
from ppcd_mmagic.registry import MODELS
from .complexity import complexity
from .formats import FORMATS
from .rounding import round_widths
from .speedup import discard_dead_channels
from .spectral_norm import fold_spectral_norm

TOLERANCE = 1e-5
_PLAIN_TYPES = dict(
    PPResSAGANGenerator='SAGANGenerator',
    PPResBigGANGenerator='BigGANGenerator',
    PPResSNGANGenResBlock='SNGANGenResBlock',
    PPResBigGANGenResBlock='BigGANGenResBlock')
# what a config needs beside the model to be tested by tools/test.py
_TEST_KEYS = ('test_dataloader', 'test_cfg', 'test_evaluator', 'visualizer',
              'vis_backends', 'env_cfg', 'randomness', 'log_level')


class Export(NamedTuple):
    """Result of :func:`export_student`.

    Attributes:
        generator: The exported generator.
        config: Config that builds it, ``model`` and what testing needs.
        summary: Sizes before and after, and the largest difference.
    """
    generator: nn.Module
    config: Config
    summary: dict


class ExportMismatch(RuntimeError):
    """The exported generator does not compute what the student computes."""


def build_student(config: Config, checkpoint: str) -> nn.Module:
    """The student of a training config, EMA weights preferred, in eval mode.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If it does not fit, or the generator has no masks.
    """
    student = build_trained_generator(config, checkpoint, 'student')
    if not any(True for _ in named_masks(student)):
        raise ValueError('The generator of this config has no masks, there is '
                         'nothing to export: give the config of a student.')
    link_readers(student)
    return student


def export_student(config: Config,
                   checkpoint: str,
                   max_classes: int = 16,
                   round_to: Optional[int] = None) -> Export:
    """Export a trained student and prove that nothing changed.

    Args:
        config (Config): Config it was trained with.
        checkpoint (str): Its checkpoint.
        max_classes (int): Compare at most so many classes, evenly spread.
        round_to (int, optional): Make widths multiples of it, see
            :func:`round_widths`. The export then equals the student with
            those channels alive.

    Raises:
        ExportMismatch: If any image differs by more than 1e-5.
        PPCDError: If ``max_classes`` or ``round_to`` is less than 2.
    """
    if max_classes < 2:
        raise PPCDError(f'max_classes={max_classes} must be at least 2: the '
                        'first and the last class are always compared.')
    student = build_student(config, checkpoint)
    revived = round_widths(student, round_to) if round_to else {}
    noise, labels = _probe(student, max_classes)
    reference = deepcopy(student)
    fold_spectral_norm(student)
    slim = discard_dead_channels(student)

    plain = plain_config(config.model)
    with torch.device('meta'):  # counting needs no values
        dense = MODELS.build(plain)
    generator_cfg = pruned_config(plain, slim, dense)
    exported = build_pruned(generator_cfg, slim)

    difference = compare(reference, exported, noise, labels)
    summary = dict(
        before=complexity(dense.to_empty(device='cpu')),
        after=complexity(exported),
        max_difference=difference,
        classes_compared=len(labels),
        sparsity={
            name: mask.sparsity
            for name, mask in named_masks(reference)
        },
        round_to=round_to,
        revived_channels=revived)
    return Export(exported, _export_config(config, generator_cfg), summary)


def _probe(student: nn.Module, max_classes: int):
    generator = torch.Generator().manual_seed(0)
    count = min(student.num_classes, max_classes)
    labels = torch.linspace(0, student.num_classes - 1, count).round().long()
    noise = torch.randn(count, student.noise_size, generator=generator)
    return noise, labels


def plain_config(model: dict) -> dict:
    """The student's generator without masks and without spectral norm."""
    cfg = deepcopy(model.generator.to_dict())
    if cfg['type'].split('.')[-1] == 'MaskedGenerator':
        cfg = cfg['generator']
    for key in ('masked_convs', 'residual_masks'):
        cfg.pop(key, None)
    cfg['type'] = _plain_type(cfg['type'])
    if 'blocks_cfg' in cfg:
        blocks = cfg['blocks_cfg']
        cfg['blocks_cfg'] = {
            key: value
            for key, value in blocks.items()
            if key not in ('masked_convs', 'residual_masks')
        }
        cfg['blocks_cfg']['type'] = _plain_type(blocks['type'])
    cfg['with_spectral_norm'] = False
    if cfg['type'] in ('SAGANGenerator', 'SNGANGenerator'):
        cfg['with_embedding_spectral_norm'] = False
        # MMagic's attention block does not follow the generator's setting
        cfg['attention_cfg'] = dict(
            cfg.get('attention_cfg', dict(type='SelfAttentionBlock')),
            with_spectral_norm=False)
    for key in ('noise_size', 'num_classes'):
        if model.get(key) is not None:
            cfg.setdefault(key, model[key])
    return cfg


def pruned_config(plain: dict, slim: nn.Module, dense: nn.Module) -> dict:
    """Config that builds a generator of the widths of ``slim``.

    Args:
        plain (dict): Config of the dense generator.
        slim (nn.Module): It without dead channels.
        dense (nn.Module): It as built.
    """
    dense_sizes = layer_sizes(dense)
    return dict(
        type='ppcd_mmagic.PrunedGenerator',
        generator=plain,
        layer_sizes={
            name: size
            for name, size in layer_sizes(slim).items()
            if size != dense_sizes[name]
        })


def build_pruned(config: dict, slim: nn.Module) -> nn.Module:
    """What a :func:`pruned_config` builds, with the weights of ``slim``."""
    with torch.device('meta'):
        exported = MODELS.build(config).eval()
    exported.load_state_dict(slim.state_dict(), assign=True)
    return exported.requires_grad_(False)


def _plain_type(name: str) -> str:
    bare = name.split('.')[-1]
    return _PLAIN_TYPES.get(bare, bare)


@torch.no_grad()
def compare(student: nn.Module, exported: nn.Module, noise: Tensor,
            labels: Tensor) -> float:
    """Largest difference between the images of two generators.

    Raises:
        ExportMismatch: If it exceeds 1e-5, naming class and first layer.
    """
    worst = 0.0
    for z, label in zip(noise.split(1), labels.split(1)):
        difference = float(
            (student(z, label=label) - exported(z, label=label)).abs().max())
        if not difference <= TOLERANCE:
            raise ExportMismatch(
                f'The export differs from the masked student by {difference:.3g}'
                f' (allowed: {TOLERANCE}) for class {int(label)}, first at '
                f'{_first_difference(student, exported, z, label)}; nothing '
                'was written.')
        worst = max(worst, difference)
    return worst


def _first_difference(student: nn.Module, exported: nn.Module, noise: Tensor,
                      label: Tensor) -> str:
    """The first block that differs. Discarded channels are zero in the
    student, so the sums over channels agree where all is well."""
    sums: List[Dict[str, Tensor]] = []
    for generator in (student, exported):
        with FeatureTap(generator, 'conv_blocks.*') as tap:
            generator(noise, label=label)
        sums.append({k: v.sum(1) for k, v in tap.features.items()})
    for name, expected in sums[0].items():
        if not torch.allclose(expected, sums[1][name], rtol=1e-4, atol=1e-4):
            return name
    return 'the output layer'


def _export_config(config: Config, generator_cfg: dict) -> Config:
    model = dict(
        type='SAGAN',
        num_classes=config.model.get('num_classes'),
        data_preprocessor=config.model.get('data_preprocessor'),
        generator=generator_cfg,
        discriminator=None)
    exported = dict(
        default_scope='ppcd_mmagic',
        custom_imports=dict(
            imports=['ppcd_mmagic'], allow_failed_imports=False),
        model=model)
    for key in _TEST_KEYS:
        if key in config:
            exported[key] = deepcopy(config[key])
    for metric in exported.get('test_evaluator', {}).get('metrics', []):
        metric['sample_model'] = 'orig'  # there is no EMA copy any more
    return Config(exported)


def save_export(export: Export,
                out_dir: str,
                formats: Sequence[str] = ('mmagic', )) -> None:
    """Write ``config.py``, ``summary.json`` and the generator.

    Args:
        export (Export): What to write.
        out_dir (str): Where; made if it does not exist.
        formats (Sequence[str]): Of ``FORMATS``.

    Raises:
        FormatMismatch: If a written file computes something else.
    """
    os.makedirs(out_dir, exist_ok=True)
    export.config.dump(osp.join(out_dir, 'config.py'))
    with open(osp.join(out_dir, 'summary.json'), 'w') as file:
        json.dump(export.summary, file, indent=2)
    for name in formats:
        FORMATS[name](export.generator, out_dir)
