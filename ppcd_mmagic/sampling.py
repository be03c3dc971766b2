"""Pictures of chosen classes from a trained generator."""

import os
import os.path as osp
from typing import Any, Callable, Iterator, List, Optional, Sequence, Union

import mmengine
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from ppcd_mmagic.checkpoints import build_trained_generator
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import make_folder, written_whole
from ppcd_mmagic.generators import (
    batch_norms,
    build_preprocessor,
    channel_order,
    draw_noise,
    settle_statistics,
)
from ppcd_mmagic.onnx_generator import OnnxGenerator


def read_config(config: Union[Config, str]) -> Config:
    """The config of a GAN or of an export, from its path.

    Raises:
        PPCDError: If there is no such file, or no generator in it.
    """
    if isinstance(config, str):
        if not osp.isfile(config):
            raise PPCDError(
                f'There is no config "{config}" (looked for '
                f'{osp.abspath(config)}).'
            )
        config = Config.fromfile(config)
    if not config.get('model', {}).get('generator'):
        raise PPCDError(
            'This config has no generator: give the one of a GAN '
            'or of an export.'
        )
    return config


def _usable(device: Union[str, torch.device]) -> torch.device:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise PPCDError(
            f'The device "{device}" cannot be used: {reason}'
        ) from error
    return torch.device(device)


class ClassSampler:
    """Draws pictures of classes, in the colours that people see.

    Args:
        config (Config | str): A training config, or one that was exported, or
            the path of it. Neither the teacher nor the data are built.
        weights (str): A checkpoint (EMA weights preferred), an exported
            ``generator.pth``, ``.safetensors`` or ``.onnx``.
        device (str | torch.device): Where to draw; ONNX draws on the CPU.
            Defaults to 'cpu'.

    Attributes:
        config (Config): The config.
        num_classes (int): Classes of the generator.
        noise_size (int): Length of its noise.

    Raises:
        PPCDError: If config or weights are missing or do not fit, the
            generator knows no classes, or there is no such device.

    Example:
        >>> sampler = ClassSampler('export/config.py', 'export/generator.pth')
        >>> sampler.num_classes, sampler.noise_size
        (10, 24)
    """

    def __init__(
        self,
        config: Union[Config, str],
        weights: str,
        device: Union[str, torch.device] = 'cpu',
    ) -> None:
        self.config = config = read_config(config)
        device = _usable(device)
        with DefaultScope.overwrite_default_scope('ppcd_mmagic'):
            self._preprocessor: Any = build_preprocessor(config)
            self.generator: Any  # called as a generator of MMagic
            if weights.endswith('.onnx'):
                self.generator = OnnxGenerator(weights)
                device = torch.device('cpu')
            else:
                self.generator = build_trained_generator(
                    config, weights, 'generator'
                ).to(device)
        self.device = device
        self.noise_size = int(self.generator.noise_size)
        classes = getattr(
            self.generator, 'num_classes', config.model.get('num_classes')
        )
        if not classes:
            raise PPCDError(
                'The generator of this config knows no classes: num_classes '
                'is missing.'
            )
        self.num_classes: int = classes

    def settle_statistics(
        self,
        batches: int,
        batch_size: int = 64,
        seed: int = 0,
        truncation: Optional[float] = None,
    ) -> None:
        """Let the norms count anew what they see ("standing statistics",
        Brock et al. 2019, appendix D), instead of the running averages of the
        training. Needed where truncation or weights differ from it.

        Args:
            batches (int): How many batches, with classes drawn uniformly.
            batch_size (int): Defaults to 64.
            seed (int): Of noise and classes. Defaults to 0.
            truncation (float, optional): That of the pictures to come.

        Raises:
            PPCDError: If a count is less than 1, or the generator has no
                batch norms to settle.
        """
        _at_least_one(batches=batches, batch_size=batch_size)
        if not isinstance(self.generator, nn.Module) or not batch_norms(
            self.generator
        ):
            raise PPCDError(
                'Standing statistics need batch norms with running averages, '
                f'and {type(self.generator).__name__} has none.'
            )
        noise = draw_noise(
            batches * batch_size, self.noise_size, seed, truncation
        )
        labels = torch.randint(
            self.num_classes,
            (batches * batch_size,),
            generator=torch.Generator().manual_seed(seed),
        )
        settle_statistics(
            self.generator,
            (
                ((z.to(self.device),), dict(label=label.to(self.device)))
                for z, label in zip(
                    noise.split(batch_size), labels.split(batch_size)
                )
            ),
        )

    @torch.no_grad()
    def draw(
        self, labels: Tensor, noise: Tensor, batch_size: int = 16
    ) -> Iterator[Tensor]:
        """Pictures of classes, a batch at a time.

        Args:
            labels (Tensor): Class indices, shape (n, ).
            noise (Tensor): Shape (n, noise_size).
            batch_size (int): Pictures at once. Defaults to 16.

        Yields:
            Tensor: uint8 RGB images of at most ``batch_size`` pictures, shape
            (b, 3, h, w), on the CPU.

        Raises:
            PPCDError: If a label is outside [0, num_classes).
        """
        self.check_labels(labels.tolist())
        for label, z in zip(labels.split(batch_size), noise.split(batch_size)):
            images = self.generator(
                z.to(self.device), label=label.to(self.device)
            ).cpu()
            images = self._preprocessor.destruct(images)
            # without data samples, destruct leaves the order of the channels
            if channel_order(self._preprocessor) == 'BGR':
                images = images.flip(1)
            yield images.round().to(torch.uint8)

    def check_labels(self, labels: Sequence[int]) -> None:
        """Refuse classes that the generator does not know.

        Raises:
            PPCDError: If a label is outside [0, num_classes).
        """
        wrong = [label for label in labels if not 0 <= label < self.num_classes]
        if wrong:
            raise PPCDError(
                f'Class {wrong[0]} is out of range: this generator knows '
                f'classes 0 to {self.num_classes - 1}.'
            )


def choose_classes(
    wanted: Sequence[str], num_classes: int, names: Callable[[], List[str]]
) -> List[int]:
    """Class indices of what a user calls them.

    Args:
        wanted (Sequence[str]): Indices, or names in any case; 'all' alone for
            every class. What is a number is an index.
        num_classes (int): Classes of the generator.
        names (Callable): Gives the names by index; only called if some are
            needed.

    Raises:
        PPCDError: If a name is unknown, or several classes have it.

    Example:
        >>> choose_classes(['2', 'Cat'], 3, lambda: ['cat', 'cow', 'dog'])
        [2, 0]
    """
    if list(wanted) == ['all']:
        return list(range(num_classes))
    if all(_is_index(item) for item in wanted):
        return [int(item) for item in wanted]
    known = [name.casefold() for name in names()]
    if len(known) != num_classes:
        raise PPCDError(
            f'There are {len(known)} class names, but the generator knows '
            f'{num_classes} classes: they are of something else.'
        )
    return [
        int(item) if _is_index(item) else _find(item, known) for item in wanted
    ]


def _is_index(item: str) -> bool:
    return item.lstrip('-').isdigit()


def _find(name: str, known: List[str]) -> int:
    found = [
        index for index, other in enumerate(known) if other == name.casefold()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise PPCDError(
            f'Several classes are called "{name}": give one of '
            f'the indices {", ".join(map(str, found))}.'
        )
    alike = [other for other in known if name.casefold() in other][:5]
    hint = f'; there are {", ".join(alike)}' if alike else ''
    raise PPCDError(f'No class is called "{name}"{hint}.')


def _at_least_one(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise PPCDError(f'{name}={value} must be at least 1.')


def write_pictures(
    sampler: ClassSampler,
    classes: Sequence[int],
    out_dir: str,
    number: int = 1,
    seed: int = 0,
    truncation: Optional[float] = None,
    standing_statistics: Optional[int] = None,
    batch_size: int = 16,
    grid: bool = False,
) -> List[str]:
    """Write pictures of classes into a folder, with a progress bar.

    Files are called ``<class>_<number>.png``; pictures with the same number
    have the same noise, and do not depend on what else is asked for.
    ``pictures.json`` says which class each is of and how they were drawn.

    Args:
        sampler (ClassSampler): Draws them.
        classes (Sequence[int]): Class indices.
        out_dir (str): Folder, made if it does not exist; must be empty.
        number (int): Pictures of each class. Defaults to 1.
        seed (int): See :func:`draw_noise`. Defaults to 0.
        truncation (float, optional): See :func:`draw_noise`.
        standing_statistics (int, optional): Batches to settle statistics on
            before, see :meth:`ClassSampler.settle_statistics`.
        batch_size (int): Pictures at once. Defaults to 16.
        grid (bool): Whether to write ``grid.png`` too, a row for each class.
            Defaults to False.

    Returns:
        List[str]: Paths of the pictures, class by class.

    Raises:
        PPCDError: If a class is unknown, a count is less than 1, or the folder
            is not empty or cannot be made.

    Example:
        >>> sampler = ClassSampler('export/config.py', 'export/generator.pth')
        >>> paths = write_pictures(sampler, [3, 7], 'pictures', number=2)
        >>> [os.path.basename(path) for path in paths]
        ['3_0.png', '3_1.png', '7_0.png', '7_1.png']
    """
    _at_least_one(number=number, batch_size=batch_size)
    classes = list(dict.fromkeys(classes))  # each once
    sampler.check_labels(classes)
    if osp.isdir(out_dir) and os.listdir(out_dir):
        raise PPCDError(
            f'The folder "{out_dir}" is not empty: old and new '
            'pictures would be mixed. Name another.'
        )
    noise = draw_noise(number, sampler.noise_size, seed, truncation)
    if standing_statistics is not None:
        sampler.settle_statistics(
            standing_statistics, seed=seed, truncation=truncation
        )
    make_folder(out_dir)
    digits = [len(str(top - 1)) for top in (sampler.num_classes, number)]
    labels = torch.tensor(classes).repeat_interleave(number)
    files = {
        f'{label:0{digits[0]}d}_{index:0{digits[1]}d}.png': label
        for label in classes
        for index in range(number)
    }
    paths = [osp.join(out_dir, name) for name in files]
    kept = []
    batches = sampler.draw(labels, noise.repeat(len(classes), 1), batch_size)
    with tqdm(total=len(paths), unit='picture', leave=False) as bar:
        for images in batches:
            for image, path in zip(images, paths[bar.n :]):
                with written_whole(path) as partial:
                    save_image(image / 255, partial, format='png')
            bar.update(len(images))
            if grid:
                kept.append(images)
    if grid:
        rows = make_grid(torch.cat(kept), nrow=number, pad_value=255)
        with written_whole(osp.join(out_dir, 'grid.png')) as partial:
            save_image(rows / 255, partial, format='png')
    with written_whole(osp.join(out_dir, 'pictures.json')) as partial:
        mmengine.dump(
            dict(
                seed=seed,
                truncation=truncation,
                standing_statistics=standing_statistics,
                classes=files,
            ),
            partial,
            file_format='json',
            indent=2,
        )
    return paths
