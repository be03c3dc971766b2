"""Convolutions of enlarged maps, computed before the maps are enlarged."""

from typing import Any, List, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmagic.models.editors.biggan.biggan_modules import BigGANGenResBlock
from mmagic.models.editors.sagan.sagan_modules import SNGANGenResBlock
from torch import Tensor

from ppcd_mmagic.channels import convolution, register_rule
from ppcd_mmagic.errors import PPCDError

# of MMagic's blocks: what enlarges, and the convolutions that alone read it
_BLOCKS = {
    SNGANGenResBlock: ('upsample', ('conv_1', 'shortcut')),
    BigGANGenResBlock: ('upsample_layer', ('conv1', 'shortcut')),
}
# which of three weights meet the same pixel, by tap of the merged kernel
_TAPS = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
_SUMS = torch.kron(_TAPS, _TAPS)
# asked once, for compiled graphs cannot ask
_HAS_ONEDNN = torch.backends.mkldnn.is_available()
# below, making the kernel costs more than it saves
_FEWEST_POSITIONS = 128


def merged_kernel(weight: Tensor) -> Tensor:
    """Kernel of the transposed convolution (stride 2, padding 1) that is a
    3 x 3 convolution (padding 1) of a map enlarged twice by its nearest
    neighbours: an output pixel reads 2 x 2 pixels of the map, each of which a
    3 x 3 kernel meets up to four times.

    Args:
        weight (Tensor): (out, in, 3, 3).

    Returns:
        Tensor: (in, out, 4, 4).

    Example:
        >>> merged_kernel(torch.ones(1, 1, 3, 3))[0, 0]
        tensor([[1., 2., 2., 1.],
                [2., 4., 4., 2.],
                [2., 4., 4., 2.],
                [1., 2., 2., 1.]])
    """
    kernel = _SUMS.to(weight) @ weight.permute(2, 3, 0, 1).reshape(9, -1)
    return kernel.view(4, 4, *weight.shape[:2]).permute(3, 2, 0, 1)


class UpsamplingConv2d(nn.Conv2d):
    """A convolution of its input enlarged twice by its nearest neighbours.

    A 1 x 1 convolution (without padding) computes before it enlarges, a
    quarter of the multiply-adds; a 3 x 3 one (padding 1) is a transposed
    convolution (:func:`merged_kernel`), four ninths of them, where that was
    found to be faster: in float32 and bfloat16 under oneDNN, on maps that are
    not tiny. Parameters and their names are those of ``nn.Conv2d``.

    Args:
        *args, **kwargs: Those of ``nn.Conv2d``; neither stride nor dilation,
            groups or another padding than zeros.

    Attributes:
        as_written (bool): Whether to enlarge first nevertheless, see
            :func:`~ppcd_mmagic.channels.as_written`.

    Raises:
        PPCDError: If it is of another kind.

    Example:
        >>> conv = UpsamplingConv2d(2, 3, 3, padding=1)
        >>> conv(torch.zeros(1, 2, 8, 8)).shape
        torch.Size([1, 3, 16, 16])
    """

    as_written = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not _is_mergeable(self):
            raise PPCDError(
                f'UpsamplingConv2d({self.extra_repr()}) is not known: it is '
                '1 x 1 without padding or 3 x 3 with a padding of 1, without '
                'stride, dilation or groups.'
            )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, in, h, w) to (n, out, 2 * h, 2 * w)."""
        if self.as_written:
            return super().forward(F.interpolate(x, scale_factor=2))
        if self.kernel_size == (1, 1):
            return F.interpolate(super().forward(x), scale_factor=2)
        if not self._is_faster_merged(x):
            return super().forward(F.interpolate(x, scale_factor=2))
        return F.conv_transpose2d(
            x, merged_kernel(self.weight), self.bias, stride=2, padding=1
        )

    def _is_faster_merged(self, x: Tensor) -> bool:
        return (
            x.device.type == 'cpu'
            and _HAS_ONEDNN
            and x.dtype in (torch.float32, torch.bfloat16)
            and x.numel() >= _FEWEST_POSITIONS * self.in_channels
        )


register_rule(UpsamplingConv2d, convolution)


class _EnlargedLater(nn.Identity):
    """In place of the layer that enlarged."""

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
        """Whoever asks for its output expects it enlarged.

        Raises:
            PPCDError: Always.
        """
        raise PPCDError(
            'The layer that enlarges the maps of a block has no output of its '
            'own here: the convolutions that read it enlarge what they '
            'compute. Ask for the output of one of them, or of the block.'
        )


def merge_upsampling(generator: nn.Module) -> None:
    """Exchange convolutions that alone read an enlarged map, in MMagic's
    blocks of SNGAN, SAGAN and BigGAN, for :class:`UpsamplingConv2d`, in place.
    Weights and their names stay. Blocks of other kinds, or with layers other
    than the usual ones (masks among them), stay as they are.

    Args:
        generator (nn.Module): Without spectral norm, see
            :func:`~ppcd_mmagic.channels.fold_computed_weights`.

    Example:
        >>> generator = MODELS.build(
        ...     dict(
        ...         type='SAGANGenerator', output_scale=32, num_classes=3,
        ...         base_channels=8, with_spectral_norm=False,
        ...     )
        ... )
        >>> merge_upsampling(generator)
        >>> sum(isinstance(m, UpsamplingConv2d) for m in generator.modules())
        6
    """
    for block in generator.modules():
        enlarging, reading = _parts(block)
        if not enlarging or not block.with_upsample:
            continue
        readers: List[Any] = [getattr(block, name) for name in reading]
        if _enlarges_twice(getattr(block, enlarging)) and all(
            _is_usual(reader.conv) for reader in readers
        ):
            setattr(block, enlarging, _EnlargedLater())
            for reader in readers:
                reader.conv = _merged(reader.conv)


def _parts(block: nn.Module) -> Tuple[str, Tuple[str, ...]]:
    """By name, what enlarges in a block of MMagic's, or one that computes as
    it does, and what reads that."""
    for kind, parts in _BLOCKS.items():
        if isinstance(block, kind) and all(
            getattr(type(block), name) is method
            for name, method in vars(kind).items()
            if name.startswith('forward')
        ):
            return parts
    return '', ()


def _enlarges_twice(layer: Any) -> bool:
    return (
        type(layer) is nn.Upsample
        and layer.mode == 'nearest'
        and layer.scale_factor == 2
    )


def _is_usual(conv: Any) -> bool:
    return (
        type(conv) is nn.Conv2d
        and _is_mergeable(conv)
        and not list(conv.children())
        and not conv._forward_hooks
        and not conv._forward_pre_hooks
    )


def _is_mergeable(conv: nn.Conv2d) -> bool:
    return (
        (conv.kernel_size, conv.padding) in (((1, 1), (0, 0)), ((3, 3), (1, 1)))
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == 'zeros'
    )


def _merged(conv: nn.Conv2d) -> UpsamplingConv2d:
    (size, _) = conv.kernel_size
    merged = UpsamplingConv2d(
        conv.in_channels,
        conv.out_channels,
        size,
        padding=size // 2,
        bias=conv.bias is not None,
        device='meta',
    )
    merged.weight, merged.bias = conv.weight, conv.bias
    return merged.train(conv.training)
