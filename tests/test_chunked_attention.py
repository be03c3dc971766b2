import copy

import pytest
import torch
from conftest import BIGGAN, SAGAN, TEACHER, build_generator, every_class
from mmagic.models.editors.biggan.biggan_modules import SelfAttentionBlock
from torch.utils._python_dispatch import TorchDispatchMode

from ppcd_mmagic.models import ChunkedSelfAttentionBlock, chunk_attention
from ppcd_mmagic.registry import MODELS


def reference(block, x):
    """Attention in float64, one query at a time."""
    n, c, height, width = x.shape
    x = x.double()
    block = block.double()
    theta, phi, g = block.theta(x), block.phi(x), block.g(x)
    phi, g = (torch.nn.functional.max_pool2d(v, 2).flatten(2) for v in (phi, g))
    out = torch.zeros(n, c // 2, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            score = torch.einsum('nc,nck->nk', theta[:, :, row, column], phi)
            out[:, :, row, column] = torch.einsum(
                'nk,nck->nc', score.softmax(1), g
            )
    return block.gamma * block.o(out) + x


@pytest.mark.parametrize('chunk_size', [1, 5, 64, 1000])
@torch.no_grad()
def test_chunks_of_any_size_against_float64(chunk_size):
    torch.manual_seed(0)
    block = ChunkedSelfAttentionBlock(
        16, with_spectral_norm=False, chunk_size=chunk_size
    )
    block.gamma.fill_(0.7)
    x = torch.randn(2, 16, 6, 8)
    actual = block(x)
    expected = reference(block, x)
    assert (expected - x).abs().max() > 0.05
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


class Products(TorchDispatchMode):
    """Counts matrix products of maps."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.bmm.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'device, batch, products',
    # a map of 4096 x 1024 of each of 16 pictures has 2 ** 26 entries
    [('cpu', 2, 32), ('meta', 2, 2), ('meta', 16, 2), ('meta', 32, 4)],
)
@torch.no_grad()
def test_off_the_cpu_chunks_are_as_large_as_memory_allows(
    device, batch, products
):
    block = ChunkedSelfAttentionBlock(8, with_spectral_norm=False).to(device)
    with Products() as counted:
        block(torch.empty(batch, 8, 64, 64, device=device))
    assert counted.count == products
    assert block(torch.empty(0, 8, 64, 64, device=device)).shape[0] == 0


@torch.no_grad()
def test_a_recorded_graph_takes_batches_of_any_size():
    block = ChunkedSelfAttentionBlock(8, with_spectral_norm=False).eval()
    images = torch.empty(2, 8, 64, 64, device='meta')
    batch = torch.export.Dim('batch', min=1, max=2**31)
    program = torch.export.export(
        block.to('meta'), (images,), dynamic_shapes=({0: batch},)
    )
    images = images.expand(2, -1, -1, -1).repeat(32, 1, 1, 1)
    assert program.module()(images).shape == images.shape


@torch.no_grad()
def test_a_generator_keeps_its_image_and_its_weights():
    config = dict(BIGGAN, type='BigGANGenerator', with_spectral_norm=False)
    generator = build_generator(config)
    noise, labels = every_class()
    expected = generator(noise, label=labels)
    names = [name for name, _ in generator.named_parameters()]
    chunk_attention(generator)
    blocks = [
        m for m in generator.modules() if isinstance(m, SelfAttentionBlock)
    ]
    assert [type(block) for block in blocks] == [ChunkedSelfAttentionBlock]
    assert [name for name, _ in generator.named_parameters()] == names
    torch.testing.assert_close(
        generator(noise, label=labels), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('training', [False, True])
def test_blocks_stay_in_training_or_in_evaluation(training):
    generator = build_generator(dict(SAGAN, type='SAGANGenerator'))
    generator.train(training)
    chunk_attention(generator)
    block = generator.conv_blocks[1]
    assert isinstance(block, ChunkedSelfAttentionBlock)
    assert all(m.training is training for m in block.modules())


def test_every_attention_of_a_generator_is_exchanged_and_nothing_else():
    config = copy.deepcopy(TEACHER)
    config['arch_cfg']['attention'] = [True, True]
    generator = build_generator(config)
    kinds = [type(block) for block in generator.conv_blocks]
    chunk_attention(generator)
    assert kinds.count(SelfAttentionBlock) == 2
    assert [type(block) for block in generator.conv_blocks] == [
        ChunkedSelfAttentionBlock if kind is SelfAttentionBlock else kind
        for kind in kinds
    ]


def test_queries_at_a_time_by_default_and_by_name_in_a_config():
    generator = MODELS.build(
        dict(
            SAGAN,
            type='SAGANGenerator',
            attention_cfg=dict(
                type='ppcd_mmagic.ChunkedSelfAttentionBlock', chunk_size=7
            ),
        )
    )
    assert generator.conv_blocks[1].chunk_size == 7
    assert ChunkedSelfAttentionBlock(16).chunk_size == 256


def test_blocks_that_are_chunked_already_stay_as_they_are():
    generator = MODELS.build(
        dict(
            SAGAN,
            type='SAGANGenerator',
            attention_cfg=dict(
                type='ppcd_mmagic.ChunkedSelfAttentionBlock', chunk_size=7
            ),
        )
    )
    block = generator.conv_blocks[1]
    chunk_attention(generator)
    assert generator.conv_blocks[1] is block and block.chunk_size == 7


@pytest.mark.parametrize('chunk_size', [5, 256])
def test_gradients_are_those_of_mmagic_s_block(chunk_size):
    torch.manual_seed(0)
    whole = SelfAttentionBlock(16, with_spectral_norm=False).double()
    whole.gamma.data.fill_(0.7)
    chunked = ChunkedSelfAttentionBlock(
        16, with_spectral_norm=False, chunk_size=chunk_size
    ).double()
    chunked.load_state_dict(whole.state_dict())
    image = torch.randn(2, 16, 6, 8, dtype=torch.float64)
    weight = torch.randn_like(image)
    gradients = []
    for block in (whole, chunked):
        x = image.clone().requires_grad_()
        (block(x) * weight).sum().backward()
        gradients.append([x.grad, *(p.grad for p in block.parameters())])
    assert len(gradients[0]) == 6
    for one, other in zip(*gradients):
        assert one.abs().max() > 1e-2
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
