"""Files that compute in less than float32, and what that costs."""

from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.evaluation import (
    LabelledImages,
    domain_quality,
    kept_statistics,
)
from .graphs import call_by_name, file_inputs

# a run of a generator, by its inputs' names
Run = Callable[[Dict[str, Tensor]], Tensor]
HALF = dict(bf16=torch.bfloat16, fp16=torch.float16)
_BATCH = 16
# of the noise, apart from that of examples
_CALIBRATION, _COMPARISON, _JUDGEMENT = 1, 2, 3


class FormatMismatch(PPCDError):
    """A written file does not compute what the generator computes."""


class Precision(NamedTuple):
    """In what a file computes.

    Attributes:
        name: 'fp32', 'bf16', 'fp16' or 'int8'.
        tolerance: Of the mean difference between its images and those in
            float32, in the units of the images, which are mostly from -1 to 1.
        judge: What else is measured of a run, see :func:`judge_of`.
    """

    name: str = 'fp32'
    tolerance: float = 0.05
    judge: Optional[Callable[[Run], Dict[str, float]]] = None


def probes(
    generator: nn.Module, count: int, seed: int
) -> Iterator[Dict[str, Tensor]]:
    """Batches of noise, labels evenly spread over the classes."""
    random = torch.Generator().manual_seed(seed)
    whole = file_inputs(generator, count)
    for name in {'noise', 'input'} & set(whole):
        whole[name] = torch.randn(whole[name].shape, generator=random)
    for start in range(0, count, _BATCH):
        yield {k: v[start : start + _BATCH] for k, v in whole.items()}


@torch.no_grad()
def cost_of(
    generator: nn.Module, run: Run, precision: Precision, file: str
) -> Dict[str, Any]:
    """What a file of less precision draws beside its generator.

    Args:
        generator (nn.Module): In float32.
        run (callable): The file.
        precision (Precision): The file's.
        file (str): Its name, for the message.

    Returns:
        dict: ``mean_difference`` of 64 images and, where there is a judge,
        what it finds ``before`` and ``after``.

    Raises:
        FormatMismatch: If they differ by more than the tolerance, or are no
            numbers.

    Example:
        >>> generator = MODELS.build(
        ...     dict(type='SAGANGenerator', output_scale=32, num_classes=9)
        ... ).eval()
        >>> half = program_of(generator, dtype=torch.bfloat16).module()
        >>> cost = cost_of(
        ...     generator, lambda inputs: half(**inputs), Precision('bf16'), 'x.pt2'
        ... )
        >>> 0 < cost['mean_difference'] < 0.05
        True
    """
    differences = [
        (run(inputs) - call_by_name(generator, inputs)).abs().mean()
        for inputs in probes(generator, 64, _COMPARISON)
    ]
    difference = float(torch.stack(differences).mean())
    if not difference <= precision.tolerance:
        raise FormatMismatch(
            f'{file} differs from the generator in float32 by '
            f'{difference:.3g} on average (allowed: {precision.tolerance}); '
            'it was not kept. Allow more by --tolerance, or choose another '
            'precision.'
        )
    cost: Dict[str, Any] = dict(mean_difference=difference)
    if precision.judge:
        cost['before'] = precision.judge(
            lambda inputs: call_by_name(generator, inputs)
        )
        cost['after'] = precision.judge(run)
    return cost


def judge_of(
    config: Config,
    generator: nn.Module,
    classifier: nn.Module,
    images_per_class: int = 100,
) -> Callable[[Run], Dict[str, float]]:
    """A judge that knows the real images of a config.

    Args:
        config (Config): With a ``test_dataloader`` of real images.
        generator (nn.Module): What is judged draws for its classes.
        classifier (nn.Module): See
            :func:`~ppcd_mmagic.evaluation.build_classifier`.
        images_per_class (int): Drawn of each class. Defaults to 100.

    Returns:
        callable: Gives ``accuracy`` and ``frechet`` (see
        :func:`~ppcd_mmagic.evaluation.domain_quality`) of a run.

    Raises:
        PPCDError: If the config has no real images, or the generator no
            classes.

    Example:
        >>> config = Config.fromfile('student.py')
        >>> generator = export_student(config, 'iter_800.pth').generator
        >>> classifier = MODELS.build(
        ...     dict(type='DomainClassifier', num_classes=10)
        ... ).eval()
        >>> judge = judge_of(config, generator, classifier, images_per_class=2)
        >>> sorted(judge(lambda inputs: call_by_name(generator, inputs)))
        ['accuracy', 'frechet']
    """
    classes = getattr(generator, 'num_classes', None)
    if not classes or not config.get('test_dataloader'):
        raise PPCDError(
            'A classifier judges images by the classes asked for and beside '
            'real ones: it takes a generator with classes and a config with '
            'a test_dataloader.'
        )
    real = kept_statistics(
        Runner.build_dataloader(config.test_dataloader), classifier
    )
    count = images_per_class * classes

    @torch.no_grad()
    def judge(run: Run) -> Dict[str, float]:
        drawn = [
            (run(inputs), inputs['label'])
            for inputs in probes(generator, count, _JUDGEMENT)
        ]
        images, labels = map(torch.cat, zip(*drawn))
        found = domain_quality(LabelledImages(images, labels), real, classifier)
        return {key: found[key] for key in ('accuracy', 'frechet')}

    return judge


def reduce_onnx(
    path: str, precision: str, generator: nn.Module, metadata: Dict[str, str]
) -> None:
    """Rewrite a file of ONNX in less precision, its inputs and outputs
    excepted, by ONNX Runtime's own tools.

    Args:
        path (str): The file, in float32.
        precision (str): 'fp16', or 'int8': convolutions, weights by channel,
            with the ranges that values have for generated noise.
        generator (nn.Module): What it was made from.
        metadata (dict): What the file says of its images.
    """
    import onnx

    if precision == 'fp16':
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    else:
        _quantize(path, generator)
        model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def _quantize(path: str, generator: nn.Module) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = probes(generator, 128, _CALIBRATION)

        def get_next(self) -> Optional[dict]:
            inputs = next(self.batches, None)
            return inputs and {k: v.numpy() for k, v in inputs.items()}

    with redirect_stdout(StringIO()):
        quant_pre_process(path, path, skip_symbolic_shape=True)
        quantize_static(
            path,
            path,
            Noise(),
            per_channel=True,
            op_types_to_quantize=['Conv', 'ConvTranspose'],
        )
