"""Weights of other projects: what their own networks compute is computed
here by hand, in float64, from the tensors in their files."""

import pytest
import torch
import torch.nn.functional as F

from ppcd_mmagic.checkpoints import load_weights
from ppcd_mmagic.registry import MODELS

NOISE, CLASSES, WIDTH = 6, 4, 8
# up-sampling, width before, width after; attention stands before block 2
BLOCKS = ((False, 32, 32), (True, 32, 16), None, (False, 16, 16), (True, 16, 8))


class HuggingFaceFile:
    """A BigGAN-deep as pytorch-pretrained-biggan saves it, but small."""

    def __init__(self):
        self.state = {}
        self.random = torch.Generator().manual_seed(0)
        condition = 2 * NOISE
        self.add('embeddings.weight', NOISE, CLASSES)
        self.normalized('generator.gen_z', 16 * 32, condition)
        for i, block in enumerate(BLOCKS):
            name = f'generator.layers.{i}'
            if block is None:
                for part, *shape in (
                    ('theta', 2, 16),
                    ('phi', 2, 16),
                    ('g', 8, 16),
                    ('o_conv', 16, 8),
                ):
                    self.normalized(
                        f'{name}.snconv1x1_{part}', *shape, 1, 1, bias=False
                    )
                self.add(f'{name}.gamma', 1)
                continue
            _, before, after = block
            inside = before // 4
            widths = (before, inside, inside, inside, after)
            for k, size in enumerate((1, 3, 3, 1)):
                self.statistics(f'{name}.bn_{k}', widths[k])
                for part in ('scale', 'offset'):
                    self.normalized(
                        f'{name}.bn_{k}.{part}',
                        widths[k],
                        condition,
                        bias=False,
                    )
                self.normalized(
                    f'{name}.conv_{k}', widths[k + 1], widths[k], size, size
                )
        self.statistics('generator.bn', WIDTH)
        self.add('generator.bn.weight', WIDTH)
        self.add('generator.bn.bias', WIDTH)
        self.normalized('generator.conv_to_rgb', WIDTH, WIDTH, 3, 3)

    def add(self, name, *shape):
        self.state[name] = torch.randn(
            *shape, generator=self.random, dtype=torch.float64
        )

    def statistics(self, name, width):
        self.add(f'{name}.running_means', 51, width)
        self.add(f'{name}.running_vars', 51, width)
        self.state[f'{name}.running_vars'].abs_().add_(0.1)

    def normalized(self, name, *shape, bias=True):
        self.add(f'{name}.weight_orig', *shape)
        matrix = self.state[f'{name}.weight_orig'].flatten(1)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        self.state[f'{name}.weight_u'] = left[:, 0]
        self.state[f'{name}.weight_v'] = right[0]
        if bias:
            self.add(f'{name}.bias', shape[0])

    # what the original computes, without truncation

    def weight(self, name):
        weight, u, v = (
            self.state[f'{name}.weight_{part}'] for part in ('orig', 'u', 'v')
        )
        return weight / (u @ weight.flatten(1) @ v)

    def convolve(self, x, name):
        weight = self.weight(name)
        return F.conv2d(
            x,
            weight,
            self.state.get(f'{name}.bias'),
            padding=weight.shape[-1] // 2,
        )

    def normalize(self, x, name):
        mean, var = (
            self.state[f'{name}.running_{part}s'][50].view(1, -1, 1, 1)
            for part in ('mean', 'var')
        )
        return (x - mean) / (var + 1e-4).sqrt()

    def block(self, x, condition, name, up, after):
        out = x
        for k in range(4):
            scale, offset = (
                (condition @ self.weight(f'{name}.bn_{k}.{part}').t())[
                    ..., None, None
                ]
                for part in ('scale', 'offset')
            )
            out = self.normalize(out, f'{name}.bn_{k}') * (1 + scale) + offset
            out = F.relu(out)
            if up and k == 1:
                out = F.interpolate(out, scale_factor=2)
            out = self.convolve(out, f'{name}.conv_{k}')
        x = x[:, :after]
        return out + (F.interpolate(x, scale_factor=2) if up else x)

    def attend(self, x, name):
        theta, phi, g = (
            self.convolve(x, f'{name}.snconv1x1_{part}')
            for part in ('theta', 'phi', 'g')
        )
        phi, g = F.max_pool2d(phi, 2).flatten(2), F.max_pool2d(g, 2).flatten(2)
        shares = torch.einsum('nci,ncj->nij', theta.flatten(2), phi).softmax(-1)
        seen = torch.einsum('ncj,nij->nci', g, shares).view(
            len(x), -1, *x.shape[2:]
        )
        return x + self.state[f'{name}.gamma'] * self.convolve(
            seen, f'{name}.snconv1x1_o_conv'
        )

    def image(self, noise, label):
        condition = torch.cat(
            [noise, self.state['embeddings.weight'].t()[label]], 1
        )
        x = condition @ self.weight('generator.gen_z').t()
        x = (x + self.state['generator.gen_z.bias']).view(-1, 4, 4, 32)
        x = x.permute(0, 3, 1, 2)
        for i, block in enumerate(BLOCKS):
            name = f'generator.layers.{i}'
            if block is None:
                x = self.attend(x, name)
            else:
                x = self.block(x, condition, name, block[0], block[2])
        x = self.normalize(x, 'generator.bn')
        x = x * self.state['generator.bn.weight'].view(
            1, -1, 1, 1
        ) + self.state['generator.bn.bias'].view(1, -1, 1, 1)
        return self.convolve(F.relu(x), 'generator.conv_to_rgb')[:, :3].tanh()


@pytest.fixture(scope='module')
def original():
    return HuggingFaceFile()


def biggan_deep(**changes):
    arch = dict(
        in_channels=[32, 16],
        out_channels=[16, 8],
        upsample=[True, True],
        resolution=[8, 16],
        attention=[True, False],
    )
    return MODELS.build(
        dict(
            type='BigGANDeepGenerator',
            output_scale=16,
            noise_size=NOISE,
            shared_dim=NOISE,
            num_classes=CLASSES,
            base_channels=WIDTH,
            arch_cfg=arch,
            sn_style='torch',
            auto_sync_bn=False,
            **changes,
        )
    ).double()


def test_hugging_face_s_biggan_deep_draws_its_own_images(original, tmp_path):
    torch.save(original.state, tmp_path / 'pytorch_model.bin')
    generator = biggan_deep()
    load_weights(generator, str(tmp_path / 'pytorch_model.bin'), 'teacher')
    noise = torch.randn(4, NOISE, dtype=torch.float64)
    label = torch.arange(CLASSES)
    with torch.no_grad():
        image = generator.eval()(noise, label=label)
    expected = original.image(noise, label)
    assert image.shape == (4, 3, 16, 16)
    assert image.std() > 0.1 and (image.abs() < 0.9).float().mean() > 0.5
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize('rgb2bgr', [False, True])
def test_a_teacher_that_draws_rgb_beside_bgr_data_is_noticed(
    rgb2bgr, original, tmp_path, monkeypatch
):
    torch.save(original.state, tmp_path / 'pytorch_model.bin')
    lines = []
    monkeypatch.setattr(
        'ppcd_mmagic.checkpoints.print_log',
        lambda line, *args: lines.append(line),
    )
    load_weights(
        biggan_deep(rgb2bgr=rgb2bgr),
        str(tmp_path / 'pytorch_model.bin'),
        'teacher',
    )
    assert ['set rgb2bgr=True' in line for line in lines] == [True] * (
        not rgb2bgr
    )


def test_a_generator_with_layers_of_its_own_is_not_taken_for_another_s(
    tmp_path,
):
    """Only names decide: 'generator.layers' alone says nothing."""
    own = torch.nn.Module()
    own.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    state = {f'generator.{k}': v for k, v in own.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'gan.pth')
    built = torch.nn.Module()
    built.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    load_weights(built, str(tmp_path / 'gan.pth'), 'teacher')
    assert torch.equal(built.layers[0].weight, own.layers[0].weight)
