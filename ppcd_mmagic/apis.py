"""The interface of MMagic's inferencers, with labels that are heeded."""

import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from mmagic.apis import MMagicInferencer
from mmagic.apis.inferencers import ConditionalInferencer
from mmagic.structures import DataSample
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from ppcd_mmagic.datasets import class_names
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import draw_noise
from ppcd_mmagic.sampling import ClassSampler, choose_classes, read_config

Label = Union[int, str]


class ClassInferencer(ConditionalInferencer):
    """Draws the classes asked for; MMagic's own passes labels on to a model
    that draws random ones.

    What :class:`PPCDInferencer` works with; its arguments are those of
    ``ConditionalInferencer``.
    """

    def _init_model(
        self, cfg: Config, ckpt: str, device: torch.device
    ) -> ClassSampler:
        return ClassSampler(cfg, ckpt, device)

    def _init_pipeline(self, cfg: Config) -> None:
        """Noise and labels need no pipeline."""

    def _init_visualizer(self, cfg: Config) -> None:
        """``visualize`` writes the pictures itself."""

    def _init_extra_parameters(self, extra_parameters: Optional[Dict]) -> None:
        # of this object: in MMagic they are the class's, for all of them
        self.extra_parameters: Dict[str, Any] = dict(
            num_batches=4, truncation=None
        )
        unknown = set(extra_parameters or {}) - set(self.extra_parameters)
        if unknown:
            raise PPCDError(
                f'extra_parameters {sorted(unknown)} are unknown: there are '
                f'{sorted(self.extra_parameters)}.'
            )
        self.extra_parameters.update(extra_parameters or {})
        count = self.extra_parameters['num_batches']
        if type(count) is not int or count < 1:
            raise PPCDError(
                f'num_batches={count!r} must be a whole number of at least 1.'
            )

    def preprocess(self, label: Union[Label, Sequence[Label]]) -> Tensor:
        """Class indices, each ``num_batches`` times.

        Raises:
            PPCDError: If a class is unknown, or there is none.
        """
        if hasattr(label, 'tolist'):  # of NumPy or torch
            label = label.tolist()
        wanted = [label] if isinstance(label, (int, str)) else label
        if not isinstance(wanted, (list, tuple, range)) or not wanted:
            raise PPCDError(
                f'label={label!r} names no class: give an index, a name or a '
                'list of them.'
            )
        classes = choose_classes(
            list(map(str, wanted)),
            self.model.num_classes,
            lambda: class_names(self.cfg),
        )
        self.model.check_labels(classes)
        return torch.tensor(classes).repeat_interleave(
            self.extra_parameters['num_batches']
        )

    def forward(self, inputs: Tensor) -> List[DataSample]:
        """Pictures of class indices (n, ), as MMagic's models return them:
        ``fake_img`` is BGR in [0, 255], shape (3, h, w)."""
        noise = draw_noise(
            len(inputs),
            self.model.noise_size,
            seed=int(torch.randint(2**31, ())),
            truncation=self.extra_parameters['truncation'],
        )
        images = torch.cat(list(self.model.draw(inputs, noise)))
        samples = []
        for image, label in zip(images.flip(1).float(), inputs):
            sample = DataSample(fake_img=image)
            sample.set_gt_label(label)
            samples.append(sample)
        return samples

    def visualize(
        self, preds: List[DataSample], result_out_dir: str = ''
    ) -> Tensor:
        """Pictures (n, 3, h, w), RGB in [0, 1], written into one file.

        Raises:
            PPCDError: If the file is not called like a picture.
        """
        ending = osp.splitext(result_out_dir)[1].lower()
        if result_out_dir and ending not in Image.registered_extensions():
            raise PPCDError(
                f'result_out_dir="{result_out_dir}" is no name of a picture: '
                'give one that ends in .png, say.'
            )
        return super().visualize(preds, result_out_dir)


class PPCDInferencer(MMagicInferencer):
    """MMagic's inferencer for the generators of this package, trained or
    exported.

    Args:
        model_config (str | Config): A training config, or one that was
            exported, or the path of it.
        model_ckpt (str): See :class:`ClassSampler`.
        device (torch.device, optional): Defaults to a GPU where there is one.
        extra_parameters (dict, optional): ``num_batches``, pictures of each
            class (4 by default), and ``truncation``, see :func:`draw_noise`.
        seed (int): Of the whole row of calls. Defaults to 2022.

    Raises:
        PPCDError: If config or weights are missing or do not fit, or a
            parameter is unknown.

    Example:
        >>> editor = PPCDInferencer('export/config.py', 'export/generator.pth')
        >>> result, images = editor.infer(label=3, result_out_dir='three.png')
    """

    def __init__(
        self,
        model_config: Union[str, Config],
        model_ckpt: str,
        device: Optional[torch.device] = None,
        extra_parameters: Optional[Dict] = None,
        seed: int = 2022,
    ) -> None:
        if not 0 <= seed < 2**32:
            raise PPCDError(f'seed={seed} must be at least 0 and below 2**32.')
        self.inferencer = ClassInferencer(
            read_config(model_config),
            model_ckpt,
            device,
            extra_parameters,
            seed=seed,
        )
