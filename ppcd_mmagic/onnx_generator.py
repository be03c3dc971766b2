"""An exported ``generator.onnx``, called as a generator is."""

import os.path as osp
from typing import Optional

import torch
from torch import Tensor

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.files import refuse_changed


class OnnxGenerator:
    """Runs a file under ONNX Runtime, on the CPU.

    Args:
        path (str): The file.

    Raises:
        PPCDError: If there is no such file, it is not the one that was
            exported, or ONNX Runtime is missing.
    """

    def __init__(self, path: str) -> None:
        if not osp.isfile(path):
            raise PPCDError(
                f'"{path}" does not exist (looked for {osp.abspath(path)}).'
            )
        refuse_changed(path)
        try:
            import onnxruntime
        except ImportError as error:
            raise PPCDError(
                f'{path} needs ONNX Runtime: install ppcd_mmagic[export].'
            ) from error
        self._session = onnxruntime.InferenceSession(
            path, providers=['CPUExecutionProvider']
        )
        self.noise_size = self._session.get_inputs()[0].shape[1]

    def __call__(self, noise: Tensor, label: Optional[Tensor] = None) -> Tensor:
        """Images of noise (n, noise_size), or of other inputs, and labels
        (n, )."""
        names = [value.name for value in self._session.get_inputs()]
        given = [noise.numpy()] + ([] if label is None else [label.numpy()])
        image, *_ = self._session.run(None, dict(zip(names, given)))
        return torch.from_numpy(image)
