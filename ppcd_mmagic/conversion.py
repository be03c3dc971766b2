"""Generators of other projects under MMagic's names."""

import re
from typing import Callable, Dict, Optional

import torch
from torch import Tensor

State = Dict[str, Tensor]

# Names in BigGAN-PyTorch (https://github.com/ajbrock/BigGAN-PyTorch) and in
# MMagic. Blocks are handled apart: there attention sits inside its block.
_BIGGAN_PYTORCH_NAMES = (
    (r'^linear\.', 'noise2feat.'),
    (r'^shared\.', 'shared_embedding.'),
    (r'^output_layer\.0\.gain$', 'output_layer.bn.weight'),
    (r'^output_layer\.0\.', 'output_layer.bn.'),
    (r'^output_layer\.2\.', 'output_layer.conv.'),
    (r'\.(conv1|conv2|theta|phi|g|o)\.', r'.\1.conv.'),
    (r'\.conv_sc\.', '.shortcut.conv.'),
    (r'^(conv_blocks\.\d+\.bn[12])\.(stored_\w+)$', r'\1.bn.\2'),
    (r'output_layer\.bn\.bn\.', 'output_layer.bn.'),
    (r'\.stored_mean$', '.running_mean'),
    (r'\.stored_var$', '.running_var'),
)

# Names in pytorch-pretrained-biggan
# (https://github.com/huggingface/pytorch-pretrained-BigGAN) and in MMagic.
_HUGGING_FACE_NAMES = (
    (r'^embeddings\.', 'shared_embedding.'),
    (r'^generator\.gen_z\.', 'noise2feat.'),
    (r'^generator\.conv_to_rgb\.', 'output_layer.conv.'),
    (r'^generator\.bn\.', 'output_layer.bn.'),
    (r'^generator\.layers\.', 'conv_blocks.'),
    (r'\.snconv1x1_(theta|phi|g)\.', r'.\1.conv.'),
    (r'\.snconv1x1_o_conv\.', '.o.conv.'),
    (r'\.conv_(\d)\.', lambda found: f'.conv{int(found[1]) + 1}.conv.'),
    (
        r'\.bn_(\d)\.running_(\w+)s$',
        lambda found: f'.bn{int(found[1]) + 1}.bn.running_{found[2]}',
    ),
    (r'\.bn_(\d)\.', lambda found: f'.bn{int(found[1]) + 1}.'),
    (r'\.scale\.', '.gain.'),
    (r'\.offset\.', '.bias.'),
    (r'\.running_(mean|var)s$', r'.running_\1'),
)
_HUGGING_FACE_EPS = 1e-4
_MMAGIC_EPS = 1e-5


def project_of(state: State) -> Optional[str]:
    """The project whose names a generator has; None if none that is known.

    Args:
        state (dict): Weights by name.
    """
    if {'embeddings.weight', 'generator.gen_z.weight_orig'} <= state.keys():
        return 'pytorch-pretrained-biggan'
    if any(key.startswith('blocks.') for key in state):
        return 'BigGAN-PyTorch'
    return None


def convert_foreign(state: State) -> State:
    """The generator of another project under MMagic's names.

    BigGAN-PyTorch's is for ``BigGANGenerator``, Hugging Face's BigGAN-deep
    for ``BigGANDeepGenerator`` with ``sn_style='torch'``. Images of both are
    RGB: set ``rgb2bgr=True`` in the generator's config.

    Args:
        state (dict): Weights by name, of a project that :func:`project_of`
            knows.
    """
    return _CONVERSIONS[project_of(state)](state)


def _renamed(key: str, names: tuple) -> str:
    for pattern, name in names:
        key = re.sub(pattern, name, key)
    return key


def _convert_biggan_pytorch(state: State) -> State:
    attention_blocks = {
        int(key.split('.')[1])
        for key in state
        if re.match(r'blocks\.\d+\.1\.', key)
    }

    def block_index(match: re.Match) -> str:
        block, part = int(match[1]), int(match[2])
        before = sum(other < block for other in attention_blocks)
        return f'conv_blocks.{block + before + part}.'

    return {
        _renamed(
            re.sub(r'^blocks\.(\d+)\.(\d+)\.', block_index, key),
            _BIGGAN_PYTORCH_NAMES,
        ): value
        for key, value in state.items()
        if not key.endswith('accumulation_counter')
    }


def _convert_hugging_face(state: State) -> State:
    converted = {
        _renamed(key, _HUGGING_FACE_NAMES): _as_in_mmagic(key, value)
        for key, value in state.items()
    }
    converted.update(_to_three_colours(converted))
    return converted


def _as_in_mmagic(key: str, value: Tensor) -> Tensor:
    if key == 'embeddings.weight':
        return value.t().contiguous()  # a linear layer on one-hot vectors
    if key.endswith('.gamma'):
        return value.reshape(())
    # of 51 truncations the last one is none at all
    if key.endswith('.running_means'):
        return value[-1]
    if key.endswith('.running_vars'):
        return value[-1] + (_HUGGING_FACE_EPS - _MMAGIC_EPS)
    return value


def _to_three_colours(state: State) -> State:
    """The output convolution without the maps that are thrown away.

    It is normalized by the singular value of them all. What is left has
    another one: the vectors are chosen so that, in evaluation, the division
    is by 1.
    """
    name = 'output_layer.conv'
    weight, u, v = (
        state[f'{name}.weight_{part}'].double() for part in ('orig', 'u', 'v')
    )
    weight = weight[:3] / (u @ weight.flatten(1) @ v)
    left, values, right = torch.linalg.svd(
        weight.flatten(1), full_matrices=False
    )
    dtype = state[f'{name}.weight_orig'].dtype
    return {
        f'{name}.weight_orig': weight.to(dtype),
        f'{name}.weight_u': left[:, 0].to(dtype),
        f'{name}.weight_v': (right[0] / values[0]).to(dtype),
        f'{name}.bias': state[f'{name}.bias'][:3],
    }


_CONVERSIONS: Dict[Optional[str], Callable[[State], State]] = {
    'pytorch-pretrained-biggan': _convert_hugging_face,
    'BigGAN-PyTorch': _convert_biggan_pytorch,
}
