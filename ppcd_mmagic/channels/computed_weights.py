"""Weights that are computed in forward: spectral norm and its like.

Which layers and hooks compute theirs, :mod:`~ppcd_mmagic.channels.rules`
says.
"""

from typing import Callable, Dict, cast

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import (
    SpectralNorm,
    SpectralNormLoadStateDictPreHook,
    remove_spectral_norm,
)

from . import hooks

_LAYERS: Dict[type, Callable[[nn.Module], Tensor]] = {}
_HOOKS: Dict[type, Callable] = {}

hooks.allow(SpectralNorm)


def register_layer(kind: type, weight: Callable[[nn.Module], Tensor]) -> None:
    """A layer that computes its weight in forward, by ``weight(layer)``; in
    training that also moves its estimate of the singular vectors."""
    _LAYERS[kind] = weight


def register_hook(kind: type, weight: Callable) -> None:
    """A forward pre-hook that computes the weight of its layer, by
    ``weight(hook, layer)``, from a parameter ``<name>_orig``."""
    _HOOKS[kind] = weight
    hooks.allow(kind)


@torch.no_grad()
def fold_computed_weights(model: nn.Module) -> None:
    """Replace every computed weight by its value in eval mode, in place.

    Layers become plain ``nn`` layers. Hooks on them (gates) and what they
    carry (masks) stay where they are.

    Example:
        >>> net = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)))
        >>> fold_computed_weights(net)
        >>> sorted(net.state_dict())
        ['0.bias', '0.weight']
    """
    modes = {child: child.training for child in model.modules()}
    plain: Dict[nn.Module, nn.Module] = {}
    model.eval()  # in training spectral norm moves on wherever it is computed
    for module in list(modes):
        if parametrize.is_parametrized(module):
            _fold_parametrizations(module)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
                _forget_loading_hook(module)
            elif type(hook) in _HOOKS:
                weight = _HOOKS[type(hook)](hook, module)
                del module._forward_pre_hooks[key]
                name = getattr(hook, 'name')  # noqa: B009
                del module._parameters[f'{name}_orig']
                delattr(module, name)
                setattr(module, name, nn.Parameter(weight.detach()))
        for name, child in module._modules.items():
            if child is not None and type(child) in _LAYERS:
                if child not in plain:  # a layer with two names stays one
                    plain[child] = _plain(child)
                    modes[plain[child]] = modes[child]
                module._modules[name] = plain[child]
    for child, mode in modes.items():
        child.training = mode


@torch.no_grad()
def parametrized_values(module: nn.Module) -> Dict[str, Tensor]:
    """What a module computes by torch's parametrizations, in evaluation
    mode."""
    steps = getattr(module, 'parametrizations', {})
    modes = {m: m.training for each in steps.values() for m in each.modules()}
    for step in modes:
        step.training = False
    values = {name: getattr(module, name).detach().clone() for name in steps}
    for step, mode in modes.items():
        step.training = mode
    return values


def _fold_parametrizations(module: nn.Module) -> None:
    """torch's own function takes the property off the class, which a module
    has in common with its copies: those would be left without a weight."""
    values = parametrized_values(module)
    del module.parametrizations
    # as torch made it a subclass
    module.__class__ = type(module).__base__  # type: ignore[assignment]
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value))


def _forget_loading_hook(module: nn.Module) -> None:
    """torch (seen in 2.14) leaves this hook behind, wrapped, and it would ask
    later checkpoints for the singular vectors."""
    registered = module._load_state_dict_pre_hooks
    for key, wrapped in list(registered.items()):
        hook = getattr(wrapped, 'hook', wrapped)
        if isinstance(hook, SpectralNormLoadStateDictPreHook):
            del registered[key]


def _plain(layer: nn.Module) -> nn.Module:
    """The layer of torch that computes what a layer computes."""
    weight = _LAYERS[type(layer)](layer)
    plain: nn.Module
    if isinstance(layer, nn.Conv2d):
        plain = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            layer.bias is not None,
        )
    elif isinstance(layer, nn.Linear):
        plain = nn.Linear(
            layer.in_features, layer.out_features, layer.bias is not None
        )
    else:
        plain = nn.Embedding(*weight.shape)
    plain.weight = nn.Parameter(weight.clone())
    bias = getattr(layer, 'bias', None)
    if isinstance(bias, Tensor):
        plain.bias = nn.Parameter(bias.clone())
    given = {k: v for k, v in vars(layer).items() if k not in vars(plain)}
    vars(plain).update(given)
    plain._forward_hooks = layer._forward_hooks
    plain._forward_pre_hooks = layer._forward_pre_hooks
    for name, child in layer.named_children():
        plain.add_module(name, child)
    return plain


@torch.no_grad()
def settle_computed_weights(model: nn.Module, iterations: int = 5) -> None:
    """Find the singular vectors of weights that have lost channels, for those
    who use them before the next training step does."""
    for layer in model.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                for _ in range(iterations):
                    weight = hook.compute_weight(layer, do_power_iteration=True)
                # as the hook does before a forward
                setattr(layer, hook.name, weight.detach())
        if type(layer) in _LAYERS or parametrize.is_parametrized(layer):
            training = layer.training
            layer.train()
            for _ in range(iterations):
                _compute(layer)
            layer.train(training)


def _compute(layer: nn.Module) -> None:
    if type(layer) in _LAYERS:
        _LAYERS[type(layer)](layer)
    else:
        for name in cast(nn.ModuleDict, layer.parametrizations):
            getattr(layer, name)
