import torch
import torch.nn as nn
from mmagic.models.editors.biggan.biggan_snmodule import (SNConv2d,
                                                          SNEmbedding, SNLinear)
from torch.nn.utils.spectral_norm import (SpectralNorm,
                                          SpectralNormLoadStateDictPreHook,
                                          remove_spectral_norm)


@torch.no_grad()
def fold_spectral_norm(model: nn.Module) -> None:
    """Replace every spectrally normalised weight by its value in eval mode.

    Knows torch's hook (``sn_style='torch'``) and MMagic's own layers
    (``sn_style='ajbrock'``), which become plain ``nn`` layers. Hooks on the
    layers (masks) stay where they are.
    """
    for module in list(model.modules()):
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
                _forget_loading_hook(module)
        for name, child in module.named_children():
            if isinstance(child, (SNConv2d, SNLinear, SNEmbedding)):
                setattr(module, name, _plain(child))


def _forget_loading_hook(module: nn.Module) -> None:
    """torch (seen in 2.14) leaves this hook behind, wrapped, and it would ask
    later checkpoints for the singular vectors."""
    hooks = module._load_state_dict_pre_hooks
    for key, wrapped in list(hooks.items()):
        if isinstance(wrapped.hook, SpectralNormLoadStateDictPreHook):
            del hooks[key]


def _plain(layer: nn.Module) -> nn.Module:
    weight = layer.sn_weight()
    if isinstance(layer, SNConv2d):
        plain = nn.Conv2d(layer.in_channels, layer.out_channels,
                          layer.kernel_size, layer.stride, layer.padding,
                          layer.dilation, layer.groups, layer.bias is not None)
    elif isinstance(layer, SNLinear):
        plain = nn.Linear(layer.in_features, layer.out_features,
                          layer.bias is not None)
    else:
        plain = nn.Embedding(layer.num_embeddings, layer.embedding_dim)
    plain.weight = nn.Parameter(weight.clone())
    if getattr(layer, 'bias', None) is not None:
        plain.bias = nn.Parameter(layer.bias.clone())
    plain._forward_hooks = layer._forward_hooks
    plain._forward_pre_hooks = layer._forward_pre_hooks
    for name, child in layer.named_children():
        plain.add_module(name, child)
    return plain.train(layer.training)
