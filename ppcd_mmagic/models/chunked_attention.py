import torch
import torch.nn as nn
import torch.nn.functional as F
from mmagic.models.editors.biggan.biggan_modules import SelfAttentionBlock
from torch import Tensor

from ppcd_mmagic.compat import is_compiling
from ppcd_mmagic.registry import MODELS

# of an attention map at a time, off the CPU: 256 MiB in single precision
_MOST_ENTRIES = 2**26


@MODELS.register_module()
class ChunkedSelfAttentionBlock(SelfAttentionBlock):
    """MMagic's self-attention, a chunk of the queries at a time.

    Same parameters, same names, same image. The attention map of 64 x 64
    queries and 32 x 32 keys is 16 MiB an image; whole, it travels through
    memory four times, in chunks it stays in the cache. It needs so many times
    less memory as there are chunks (Rabe and Staats, 2021, without their
    chunks of keys).

    Args:
        *args, **kwargs: Those of MMagic's ``SelfAttentionBlock``.
        chunk_size (int): Queries at a time on the CPU. Defaults to 256. On
            other devices, where every chunk costs the launch of its kernels,
            as many as make a map of 256 MiB, if that is more; not in what is
            compiled or traced.

    Example:
        >>> generator = MODELS.build(
        ...     dict(
        ...         type='SAGANGenerator', output_scale=32, num_classes=3,
        ...         base_channels=8, attention_after_nth_block=2,
        ...         attention_cfg=dict(type='ChunkedSelfAttentionBlock'),
        ...     )
        ... )
        >>> sum(isinstance(m, ChunkedSelfAttentionBlock) for m in generator.modules())
        1
    """

    def __init__(self, *args, chunk_size: int = 256, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.chunk_size = chunk_size

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (n, c, h, w) to the same shape."""
        queries = self.theta(x).flatten(2).transpose(1, 2)
        keys = F.max_pool2d(self.phi(x), 2).flatten(2)
        values = F.max_pool2d(self.g(x), 2).flatten(2)
        attended = torch.cat(
            [
                torch.bmm(
                    values, torch.bmm(chunk, keys).softmax(-1).transpose(1, 2)
                )
                for chunk in queries.split(self._queries_at_once(keys), dim=1)
            ],
            dim=2,
        )
        return self.gamma * self.o(attended.unflatten(2, x.shape[2:])) + x

    def _queries_at_once(self, keys: Tensor) -> int:
        # a recorded graph is to serve batches of any size
        recorded = is_compiling() or torch.jit.is_tracing()
        if keys.device.type == 'cpu' or recorded:
            return self.chunk_size
        per_query = max(1, keys.size(0) * keys.size(2))
        return max(self.chunk_size, _MOST_ENTRIES // per_query)


def chunk_attention(generator: nn.Module) -> None:
    """Exchange MMagic's self-attention for :class:`ChunkedSelfAttentionBlock`
    wherever a generator has it, in place. Layers and weights stay.

    Example:
        >>> generator = MODELS.build(
        ...     dict(
        ...         type='SAGANGenerator', output_scale=32, num_classes=3,
        ...         base_channels=8, attention_after_nth_block=2,
        ...     )
        ... )
        >>> chunk_attention(generator)
        >>> sum(isinstance(m, ChunkedSelfAttentionBlock) for m in generator.modules())
        1
    """
    for parent in list(generator.modules()):
        for name, block in parent.named_children():
            if type(block) is SelfAttentionBlock:
                chunked = ChunkedSelfAttentionBlock(
                    block.in_channels, with_spectral_norm=False
                )
                for part in ('theta', 'phi', 'g', 'o', 'gamma'):
                    setattr(chunked, part, getattr(block, part))
                setattr(parent, name, chunked.train(block.training))
