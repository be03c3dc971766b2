"""Learnable channel masks: the one mechanism behind PP-Res.

A :class:`ChannelMask` attaches to any ``nn.Conv2d`` of any module by name. It
acts in two places, because a zeroed channel is not yet a dead one:

- on the *output* of the convolution it belongs to, and
- on the *input* of every convolution that reads those channels
  (:func:`link_readers` finds them). Between the two stands a class-conditional
  norm, which turns an all-zero channel into a class-dependent constant; cut
  off at the readers, that constant reaches nothing, for any class.

So a pruned channel can be discarded exactly. Losses, the binarization hook,
checkpoints and export know masks through this module alone.
"""
from fnmatch import fnmatch
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim import Optimizer

from .layers import convolutions, replace
from .tracing import channel_users, trace


class ChannelMask(nn.Module):
    """A mask over the output channels of a convolution.

    The mask is binary wherever it is used; ``weight`` is the score behind it,
    trained through a straight-through estimator (method: Eq. 3 of the paper,
    reconstruction), and ``pruned`` marks what is gone for good.

    Args:
        channels (int): Number of channels c.

    Attributes:
        weight (nn.Parameter): Scores, shape (c, ), 1 at the start.
        pruned (Tensor): Bool buffer, shape (c, ).
        channels (int): c as built. Where pruned channels were removed the
            tensors are shorter, but those channels still count as pruned.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer('pruned', torch.zeros(channels, dtype=torch.bool))

    @property
    def num_removed(self) -> int:
        return self.channels - self.pruned.numel()

    @property
    def num_pruned(self) -> int:
        return int(self.pruned.sum()) + self.num_removed

    @property
    def sparsity(self) -> float:
        """Fraction of channels pruned, in [0, 1)."""
        return self.num_pruned / self.channels

    def gate(self) -> Tensor:
        """The mask in use, shape (c, ): exactly 0 where pruned, 1 elsewhere.

        Its gradient passes unchanged to ``weight`` of the living channels.
        """
        alive = (~self.pruned).to(self.weight.dtype)
        return alive * (1 + (self.weight - self.weight.detach()))

    @torch.no_grad()
    def prune(self, count: int) -> None:
        """Prune the lowest scores until ``count`` channels are pruned.

        Never revives a channel and never prunes the last one.
        """
        count = min(count, self.channels - 1)
        missing = count - self.num_pruned
        if missing <= 0:
            return
        scores = self.weight.masked_fill(self.pruned, float('inf'))
        # a stable sort, so that equal scores fall alike everywhere
        self.pruned[torch.sort(scores, stable=True).indices[:missing]] = True

    def keep(self,
             kept: Tensor,
             optimizer: Optional[Optimizer] = None) -> None:
        """Remove all channels but those of the given indices."""
        for name in ('weight', 'pruned'):
            replace(self, name, lambda value: value[kept], optimizer)

    def mask_output(self, conv: nn.Module, args: tuple, out: Tensor) -> Tensor:
        """Forward hook of the convolution that the mask belongs to."""
        return _gate_output(self.gate(), out)

    def extra_repr(self) -> str:
        return f'{self.channels}, pruned={self.num_pruned}'


def alive_channels(masks: Sequence[ChannelMask]) -> Tensor:
    """Which channels that all these masks write are alive, bool (c, ): those
    that not every one of them has pruned."""
    return ~torch.stack([mask.pruned for mask in masks]).all(0)


class ReaderGate:
    """Cuts dead channels off the input of a convolution that reads them.

    Channels written by several masked convolutions (conv_2 and shortcut of a
    residual block) are dead where all of them are pruned.
    """

    def __init__(self, masks: Sequence[ChannelMask]) -> None:
        self.masks = list(masks)

    def alive(self) -> Tensor:
        """Bool tensor of shape (c, )."""
        return alive_channels(self.masks)

    def gate(self) -> Tensor:
        """Shape (c, ), 0 or 1. With a single mask its score is trained here
        too: a norm right behind the convolution hides every scale from the
        output side, so the readers are where its importance shows."""
        if len(self.masks) == 1:
            return self.masks[0].gate()
        return self.alive().to(self.masks[0].weight.dtype)

    def mask_input(self, conv: nn.Module, args: tuple) -> tuple:
        """Forward pre-hook of a reading convolution.

        A weight times the gate gives the same as the input times the gate,
        and is smaller where the image is large. torch's spectral norm has
        just computed it for this pass, so that it can be replaced.
        """
        x, *rest = args
        if 'weight' in vars(conv) and conv.weight.numel() < x.numel():
            conv.weight = conv.weight * _per_channel(self.gate(), conv.weight)
            return args
        return (x * _per_channel(self.gate(), x), *rest)

    def mask_output(self, conv: nn.Module, args: tuple, out: Tensor) -> Tensor:
        """Forward hook of an unmasked convolution that only adds to the
        channels (``o`` of self-attention)."""
        return _gate_output(self.gate(), out)


def _gate_output(gate: Tensor, out: Tensor) -> Tensor:
    gate = _per_channel(gate, out)
    # nobody else has seen a convolution's output; a product in place saves
    # its memory where no gradient needs both
    return out * gate if torch.is_grad_enabled() else out.mul_(gate)


def _per_channel(gate: Tensor, x: Tensor) -> Tensor:
    return gate.to(x.dtype).view(1, -1, 1, 1)


def _conv_names(module: nn.Module) -> Dict[str, nn.Conv2d]:
    """Convolutions by name; that of a ConvModule goes by the module's."""
    return {
        name.removesuffix('.conv'): conv
        for name, conv in convolutions(module).items()
    }


def attach_masks(module: nn.Module, convs: Sequence[str]) -> List[str]:
    """Give every convolution that matches one of the patterns its own mask.

    Args:
        module (nn.Module): Any module.
        convs (Sequence[str]): Names or ``fnmatch`` patterns of convolutions
            inside ``module``, such as ``'conv_blocks.*.conv_1'``.

    Returns:
        List[str]: Names of the convolutions that carry a mask now.

    Raises:
        ValueError: If a pattern matches no convolution.
    """
    available = _conv_names(module)
    matched = []
    for pattern in convs:
        names = [name for name in available if fnmatch(name, pattern)]
        if not names:
            raise ValueError(
                f'No convolution matches "{pattern}" in '
                f'{type(module).__name__}; it has: {", ".join(available)}.')
        matched += names
    for name in dict.fromkeys(matched):
        conv = available[name]
        if mask_of(conv) is None:
            _hang(conv, ChannelMask(conv.out_channels).to(conv.weight.device))
    return matched


def share_mask(owner: nn.Conv2d, other: nn.Conv2d) -> None:
    """Let ``other`` use the mask of ``owner`` in place of its own."""
    mask = mask_of(owner)
    if mask.channels != other.out_channels:
        raise ValueError(
            f'Cannot share a mask of {mask.channels} channels with a '
            f'convolution of {other.out_channels} output channels.')
    detach_mask(other)
    other.register_forward_hook(mask.mask_output)


def _hang(conv: nn.Conv2d, mask: ChannelMask) -> None:
    conv.add_module('mask', mask)
    conv.register_forward_hook(mask.mask_output)


def detach_mask(conv: nn.Conv2d) -> None:
    """Remove everything that masks a convolution's output or input."""
    _remove_hooks(conv, (ChannelMask, ReaderGate))
    if isinstance(getattr(conv, 'mask', None), ChannelMask):
        del conv.mask


def _remove_hooks(conv: nn.Conv2d, kinds: tuple) -> None:
    for hooks in (conv._forward_hooks, conv._forward_pre_hooks):
        for key, hook in list(hooks.items()):
            if isinstance(getattr(hook, '__self__', None), kinds):
                del hooks[key]


def _hook_owner(hooks: dict, kind: type):
    owners = (getattr(hook, '__self__', None) for hook in hooks.values())
    return next((owner for owner in owners if isinstance(owner, kind)), None)


def mask_of(conv: nn.Module) -> Optional[ChannelMask]:
    """The mask on a convolution's output, its own or a shared one."""
    return _hook_owner(conv._forward_hooks, ChannelMask)


def input_gate_of(conv: nn.Module) -> Optional[ReaderGate]:
    """The gate on a convolution's input."""
    return _hook_owner(conv._forward_pre_hooks, ReaderGate)


def output_gate_of(conv: nn.Module) -> Optional[ReaderGate]:
    """The gate on the output of an unmasked convolution."""
    return _hook_owner(conv._forward_hooks, ReaderGate)


def living_outputs(conv: nn.Module) -> Optional[Tensor]:
    """Which outputs of a convolution are alive, bool (c, ); None where
    nothing masks them."""
    mask, gate = mask_of(conv), output_gate_of(conv)
    return ~mask.pruned if mask else gate.alive() if gate else None


def named_masks(module: nn.Module) -> Iterator[Tuple[str, ChannelMask]]:
    """Every mask once, by the name of the convolution that owns it."""
    for name, child in module.named_modules():
        if isinstance(child, ChannelMask):
            yield name.removesuffix('.mask').removesuffix('.conv'), child


def link_readers(generator: nn.Module) -> None:
    """Gate every convolution that reads masked channels.

    The readers are found by tracing the forward function once (nothing is
    executed). Calling it again replaces the gates of the first call.

    Raises:
        ValueError: If the forward function cannot be traced by ``torch.fx``.
    """
    convs = convolutions(generator)
    for conv in convs.values():
        _remove_hooks(conv, (ReaderGate, ))
    for user in channel_users(trace(generator)):
        masks = [mask_of(convs[writer]) for writer in user.writers]
        if not masks or None in masks or user.has_other_writers:
            continue
        gate = ReaderGate(list(dict.fromkeys(masks)))
        for name in user.reads:
            convs[name].register_forward_pre_hook(gate.mask_input)
        for name in user.adds:
            convs[name].register_forward_hook(gate.mask_output)


@torch.no_grad()
def fold_masks(generator: nn.Module) -> None:
    """Write the masks into the weights and take them off.

    Rows (and biases) of pruned output channels and columns of dead input
    channels become zero; the function computed stays exactly the same.
    Weights must be plain parameters (fold spectral norm first).
    """
    for conv in generator.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        writes, reads = living_outputs(conv), input_gate_of(conv)
        if writes is not None:
            conv.weight.mul_(writes.view(-1, 1, 1, 1))
            if conv.bias is not None:
                conv.bias.mul_(writes)
        if reads is not None:
            conv.weight.mul_(reads.alive().view(1, -1, 1, 1))
        detach_mask(conv)


def copy_masks(source: nn.Module, target: nn.Module) -> None:
    """Copy what is pruned in ``source`` to the same masks of ``target``."""
    for (_, src), (_, dst) in zip(named_masks(source), named_masks(target)):
        dst.pruned.copy_(src.pruned)
