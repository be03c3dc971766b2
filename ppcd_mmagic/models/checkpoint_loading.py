"""Reading weights from the checkpoints people have."""
import os.path as osp
import re
from typing import Dict

import torch.nn as nn
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.masks import named_masks
from ppcd_mmagic.registry import MODELS
from ppcd_mmagic.shrinking import fit_to_state

# MMagic's checkpoints, most wanted first: the EMA copy, with and without the
# wrapper's own level, then the raw generator.
_PREFIXES = ('generator_ema.module.', 'generator_ema.', 'generator.')

# Names in BigGAN-PyTorch (https://github.com/ajbrock/BigGAN-PyTorch) and in
# MMagic. Blocks are handled apart: there attention sits inside its block.
_BIGGAN_PYTORCH_NAMES = (
    (r'^linear\.', 'noise2feat.'),
    (r'^shared\.', 'shared_embedding.'),
    (r'^output_layer\.0\.gain$', 'output_layer.bn.weight'),
    (r'^output_layer\.0\.bias$', 'output_layer.bn.bias'),
    (r'^output_layer\.0\.', 'output_layer.bn.'),
    (r'^output_layer\.2\.', 'output_layer.conv.'),
    (r'\.(conv1|conv2|theta|phi|g|o)\.', r'.\1.conv.'),
    (r'\.conv_sc\.', '.shortcut.conv.'),
    (r'^(conv_blocks\.\d+\.bn[12])\.(stored_\w+)$', r'\1.bn.\2'),
    (r'output_layer\.bn\.bn\.', 'output_layer.bn.'),
    (r'\.stored_mean$', '.running_mean'),
    (r'\.stored_var$', '.running_var'),
)


def load_weights(model: nn.Module, path: str, role: str) -> None:
    """Load weights from a checkpoint, all of them or none.

    Args:
        model (nn.Module): Usually a generator.
        path (str): Checkpoint of MMagic (of a whole GAN its generator is
            taken, EMA weights preferred), or BigGAN-PyTorch's ``G_ema.pth``.
        role (str): What the model is, for the messages: 'teacher'.

    Raises:
        PPCDError: If there is no such file, it cannot be read, or its keys or shapes do not fit.
    """
    state = read_weights(path, role)
    wanted = model.state_dict()
    problems = _differences(state, wanted)
    if problems:
        raise PPCDError(
            f'The {role} checkpoint {path} does not fit '
            f'{type(model).__name__}: {"; ".join(problems)}. Use the config '
            f'that the {role} was trained with.')
    model.load_state_dict({**wanted, **state})


def build_trained_generator(config: Config, checkpoint: str,
                            role: str) -> nn.Module:
    """The generator of a GAN's config with its trained weights, in eval mode.

    Nothing else of the GAN is built, so no teacher and no data are needed.

    Args:
        config (Config): A training config, or one that was exported.
        checkpoint (str): See :func:`load_weights`.
        role (str): What the generator is, for the messages.
    """
    model = config.model
    defaults = {
        key: model[key]
        for key in ('noise_size', 'num_classes') if model.get(key) is not None
    }
    generator = MODELS.build(model.generator, default_args=defaults)
    if any(True for _ in named_masks(generator)):
        fit_to_state(generator, read_weights(checkpoint, role))
    load_weights(generator, checkpoint, role)
    return generator.eval()


def read_weights(path: str, role: str) -> Dict[str, Tensor]:
    """The state dict that :func:`load_weights` loads."""
    if not osp.isfile(path):
        raise PPCDError(
            f'The {role} checkpoint "{path}" does not exist (looked for '
            f'{osp.abspath(path)}).')
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            path, map_location='cpu', logger='silent')
    except Exception as error:
        raise PPCDError(
            f'The {role} checkpoint {path} cannot be read, it may be '
            f'truncated: copy it again ({type(error).__name__}).') from error
    state = checkpoint.get('state_dict', checkpoint)
    for prefix in _PREFIXES:
        if any(key.startswith(prefix) for key in state):
            return {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix) and key != f'{prefix}steps'
            }
    if any(key.startswith('blocks.') for key in state):
        return convert_biggan_pytorch(state)
    return state


def convert_biggan_pytorch(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Rename the generator of BigGAN-PyTorch to MMagic's names.

    Its images are RGB: set ``rgb2bgr=True`` in the generator's config.
    """
    attention_blocks = {
        int(key.split('.')[1])
        for key in state if re.match(r'blocks\.\d+\.1\.', key)
    }

    def block_index(match: re.Match) -> str:
        block, part = int(match[1]), int(match[2])
        before = sum(other < block for other in attention_blocks)
        return f'conv_blocks.{block + before + part}.'

    converted = {}
    for key, value in state.items():
        if key.endswith('accumulation_counter'):
            continue
        key = re.sub(r'^blocks\.(\d+)\.(\d+)\.', block_index, key)
        for pattern, name in _BIGGAN_PYTORCH_NAMES:
            key = re.sub(pattern, name, key)
        converted[key] = value
    return converted


def _differences(state: dict, wanted: dict) -> list:
    optional = 'num_batches_tracked'
    missing = [k for k in wanted if k not in state and optional not in k]
    unexpected = [k for k in state if k not in wanted]
    reshaped = [
        f'{k} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}'
        for k in wanted if k in state and state[k].shape != wanted[k].shape
    ]
    found = (('missing', missing), ('unexpected', unexpected),
             ('of another shape', reshaped))
    return [
        f'{len(keys)} keys {what} ({", ".join(keys[:3])}'
        f'{", ..." if len(keys) > 3 else ""})' for what, keys in found if keys
    ]
