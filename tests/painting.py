"""Pictures whose colours are known, and a generator that paints them."""

import io

import numpy as np
import torch
from PIL import Image

from ppcd_mmagic.registry import MODELS

# MMagic's images: BGR in [-1, 1]
RED, GREEN, BLUE = (
    torch.tensor(bgr)
    for bgr in ((-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, -1.0, -1.0))
)
COLOURS = torch.stack([RED, GREEN, BLUE])


def solid(bgr: torch.Tensor, size: int = 16) -> torch.Tensor:
    """An image of one colour, (3, size, size)."""
    return bgr.view(3, 1, 1).expand(3, size, size).clone()


class Painter(torch.nn.Module):
    """Class 0 is red, class 1 green, class 2 blue; the noise is a row of
    gray dots at the bottom, brighter where it is larger."""

    def __init__(self, noise_size=4, num_classes=3, size=16, dots=True):
        super().__init__()
        self.noise_size, self.num_classes = noise_size, num_classes
        self.size, self.dots = size, dots
        self.colour = torch.nn.Embedding(num_classes, 3)
        self.colour.weight.data[:] = COLOURS[:num_classes]
        # multiplies, so that there is something to count
        self.same = torch.nn.Conv2d(3, 3, 1, bias=False)
        torch.nn.init.dirac_(self.same.weight)

    def forward(self, noise, label=None, return_noise=False, **kwargs):
        colours = self.colour(label)[..., None, None]
        image = self.same(colours.repeat(1, 1, self.size, self.size))
        if self.dots:
            dots = (noise / 4).clamp(-1, 1)
            image[..., -1, : self.noise_size] = dots[:, None]
        return image


def register_painter(monkeypatch, **settings) -> dict:
    """A config of the painter, registered for one test."""
    monkeypatch.setitem(MODELS._module_dict, 'Painter', Painter)
    return dict(dict(type='Painter', noise_size=4, num_classes=3), **settings)


def painter_checkpoint(path, **settings) -> str:
    painter = Painter(**settings)
    state = {f'generator.{k}': v for k, v in painter.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    return str(path)


def pixels(figure) -> np.ndarray:
    """A figure of matplotlib as RGB, (h, w, 3) in [0, 255]."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return np.asarray(Image.open(buffer).convert('RGB'))


def share(picture: np.ndarray, rgb: tuple) -> float:
    """The fraction of pixels of a colour."""
    return float((np.asarray(picture)[..., :3] == rgb).all(-1).mean())
