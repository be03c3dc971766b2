"""What has to hold of masks on any module, found out by running it."""

import copy

import torch
import torch.nn as nn
from torch.utils._pytree import tree_map

from ppcd_mmagic.channels import (
    discard_channels,
    largest_difference,
    named_masks,
    outputs_of,
    remaining_complexity,
)


class Net(nn.Module):
    """Layers by name, and what to do with them.

    Args:
        run (Callable): ``run(net, *inputs)`` is the forward.
        layers (nn.Module | nn.Parameter | Tensor): Become attributes.
    """

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            if torch.is_tensor(layer) and not isinstance(layer, nn.Parameter):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)

    def forward(self, *inputs):
        return self.run(self, *inputs)


def conv(inputs, outputs, kernel=3, **kwargs):
    """One that keeps the size of a map."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **kwargs)


def net(run=lambda s, y: s.b(y), last=8, **layers):
    """``p`` of 6 channels, ``y`` of 8 behind ``a`` and a norm, and ``b``."""
    torch.manual_seed(0)
    return as_trained(
        Net(
            lambda s, x: run(s, s.n(s.a(s.p(x).relu()))),
            p=conv(3, 6),
            a=conv(6, 8),
            n=nn.BatchNorm2d(8),
            b=conv(last, 3),
            **layers,
        )
    ).eval()


@torch.no_grad()
def as_trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """No value is at its default, and none is so small that it hides."""
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(getattr(layer, 'running_mean', None), torch.Tensor):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.ndim > 1 and not isinstance(layer, nn.Embedding):
                fan = parameter[0].numel()
                if parameter.abs().max() < 0.05 or 'orig' in name:
                    parameter.normal_(0, fan**-0.5)
            elif name == 'bias' and hasattr(layer, 'kernel_size'):
                parameter.uniform_(-0.2, 0.2)
            else:
                parameter.uniform_(0.5, 1.5)
    return module


def call(module, inputs):
    """Outputs of a module in evaluation mode."""
    return outputs_of(module, inputs)


def varied(inputs, seed):
    """Other numbers of the same shapes; labels and steps stay."""
    torch.manual_seed(seed)
    return tree_map(
        lambda value: (
            torch.randn_like(value)
            if torch.is_tensor(value) and value.is_floating_point()
            else value
        ),
        inputs,
    )


def prune_half(module) -> None:
    """The first half of each mask, so that sizes can be counted by hand."""
    for _, mask in named_masks(module):
        mask.prune(mask.channels // 2)


def prune_some(module, seed=0) -> None:
    """Half of each mask, anywhere in it."""
    torch.manual_seed(seed)
    for _, mask in named_masks(module):
        mask.weight.data.uniform_()
        mask.prune(mask.channels // 2)


def leak(module, channels, inputs) -> float:
    """How far the output moves when every channel that can be discarded is
    given other values, behind its mask."""
    expected, handles, moved = call(module, inputs), [], 0
    for name in channels.writers:
        dead = channels.leaving_of(name)
        if not dead.any():
            continue
        moved += int(dead.sum())
        layer = module.get_submodule(name)
        along = -1 if isinstance(layer, (nn.Linear, nn.Embedding)) else 1

        def disturb(layer, args, out, dead=dead, along=along):
            shape = [1] * out.ndim
            shape[along] = -1
            return out + 3 * dead.to(out).view(shape) * torch.randn_like(out)

        handles.append(layer.register_forward_hook(disturb))
    found = call(module, inputs)
    for handle in handles:
        handle.remove()
    assert moved, 'nothing can be discarded, so nothing was tried'
    return largest_difference(expected, found)


def closed_but_moving(module, channels, inputs, maps=False) -> dict:
    """Inputs that a reader's gate closes although they carry something of
    the module's input: their numbers, by reader.

    With ``maps`` what is the same all over a map does not count: a
    conditional norm shifts it by what it reads of the noise.
    """
    seen, handles = {}, []
    for name in channels.readers:
        # ahead of the gate, which is a hook as well
        handles.append(
            module.get_submodule(name).register_forward_pre_hook(
                lambda layer, args, name=name: seen.setdefault(name, []).append(
                    args[0].detach().clone()
                ),
                prepend=True,
            )
        )
    for seed in range(3):
        call(module, varied(inputs, seed))
    for handle in handles:
        handle.remove()
    found = {}
    for name, values in seen.items():
        if maps:
            values = [
                v - v.mean((2, 3), keepdim=True) if v.ndim == 4 else v
                for v in values
            ]
        uses = len(values) // 3
        along = -1 if isinstance(module.get_submodule(name), nn.Linear) else 1
        moves = torch.stack(
            [
                (values[i + uses * k] - values[i])
                .abs()
                .movedim(along, 0)
                .flatten(1)
                .amax(1)
                for i in range(uses)
                for k in (1, 2)
            ]
        ).amax(0)
        closed = ~channels.alive_inputs(name)
        if bool((closed & (moves > 1e-5)).any()):
            found[name] = (closed & (moves > 1e-5)).nonzero().flatten()
    return found


def cut(module, channels, inputs) -> nn.Module:
    """Without its dead channels; computes the same, and its size is the one
    that was said."""
    smaller = discard_channels(module, inputs)
    left = remaining_complexity(channels)['parameters']
    assert left == sum(p.numel() for p in smaller.parameters())
    expected = call(module, inputs)
    assert largest_difference(expected, call(smaller, inputs)) <= 1e-5 * scale(
        expected
    )
    return smaller


def scale(outputs) -> float:
    return max([1.0] + [float(out.abs().max()) for out in outputs])


def state_of(module) -> dict:
    """All that mask_channels must leave as it is."""
    return copy.deepcopy(
        dict(
            state={
                name: value
                for name, value in module.state_dict().items()
                if '.mask.' not in f'.{name}'
            },
            modes={
                name: m.training
                for name, m in module.named_modules()
                if not name.endswith('mask')
            },
            random=torch.get_rng_state(),
        )
    )


def same_state(before, after) -> bool:
    return (
        before['modes'] == after['modes']
        and torch.equal(before['random'], after['random'])
        and before['state'].keys() == after['state'].keys()
        and all(
            torch.equal(before['state'][key], after['state'][key])
            for key in before['state']
        )
    )
