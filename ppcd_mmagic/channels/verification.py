"""Whether two modules compute the same."""

import math
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, Dict, List, Optional

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ppcd_mmagic.errors import PPCDError
from .probes import Probe, probes
from .recording import copied, first_line, split_inputs
from .untouched import state_kept

TOLERANCE = 1e-5
_ADVICE = (
    'its forward uses them in a way that was not noticed, as what was '
    'executed for the recording is all that is known. Leave out what they '
    'reach by name (exclude); print(mask_channels(...)) says what that is.'
)


class ExportMismatch(PPCDError):
    """A network without its dead channels computes something else."""


@torch.no_grad()
def outputs_of(
    module: nn.Module,
    example_inputs: Any,
    training: bool = False,
    seed: int = 0,
) -> List[Tensor]:
    """Output tensors, with the random numbers of one seed.

    The module stays as it is: its modes, buffers and plain attributes (a
    counter, a hidden state) are restored.

    Args:
        module (nn.Module): Any that runs on the inputs.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        training (bool): In training mode, where random numbers are all the
            same: of fewer channels dropout would draw fewer. Defaults to
            False, evaluation mode.
        seed (int): Of the random numbers. Defaults to 0.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout())
        >>> images = torch.randn(1, 3, 4, 4)
        >>> largest_difference(outputs_of(net, images), outputs_of(net, images))
        0.0
    """
    args, kwargs = split_inputs(copied(example_inputs))
    with ExitStack() as stack:
        stack.enter_context(state_kept(module))
        stack.enter_context(torch.random.fork_rng())
        torch.manual_seed(seed)
        if training:
            module.train()
            stack.enter_context(_Steady())
        out = module(*args, **kwargs)
        out = out.to_tuple() if hasattr(out, 'to_tuple') else out
        # an output may be a buffer, which is about to be restored
        return [
            value.clone()
            for value in tree_leaves(out)
            if torch.is_tensor(value)
        ]


class _Steady(TorchDispatchMode):
    """Random numbers that are all one half, however many are drawn."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        names = [argument.name for argument in func._schema.arguments]
        for name in {'training', 'train'}.intersection(names):
            # what it draws is not all that it gives
            position = names.index(name)
            args, kwargs = args[:position], {**kwargs, name: False}
            return func(*args, **kwargs)
        out = func(*args, **kwargs)
        for value in tree_leaves(out):
            if torch.is_tensor(value) and value.is_floating_point():
                value.fill_(0.5)
        return out


def copy_on_cpu(module: nn.Module) -> nn.Module:
    """A deep copy in which tensors share memory where those of the module do,
    as copies of parameters do not by themselves; what shares memory keeps its
    channels. What a graph has made (the weight of a spectral norm) is copied
    without the graph."""
    storages: Dict[int, torch.UntypedStorage] = {}
    memo: Dict[int, Any] = {}
    for layer in module.modules():
        for value in (
            *layer._parameters.values(),
            *layer._buffers.values(),
            *vars(layer).values(),
        ):
            # a sparse one has no memory to share
            if (
                type(value) in (Tensor, nn.Parameter)
                and value.layout is torch.strided
            ):
                memo.setdefault(id(value), _copied(value, storages))
    return deepcopy(module, memo).cpu()


def overlaps(value: Tensor) -> bool:
    """Whether an element may be in several places, as of what was expanded."""
    if value.layout != torch.strided:
        return False
    reached = 0
    for stride, size in sorted(zip(value.stride(), value.shape)):
        if size > 1:
            if stride <= reached:
                return True
            reached += stride * (size - 1)
    return False


def _copied(value: Tensor, storages: Dict[int, torch.UntypedStorage]) -> Tensor:
    storage = value.untyped_storage()
    if storage.data_ptr() not in storages:
        storages[storage.data_ptr()] = storage.clone().cpu()
    copy = torch.empty(0, dtype=value.dtype).set_(
        storages[storage.data_ptr()],
        value.storage_offset(),
        value.shape,
        value.stride(),
    )
    if isinstance(value, nn.Parameter):
        return nn.Parameter(copy, value.requires_grad)
    return copy


def on_cpu(example_inputs: Any) -> Any:
    """Example inputs of a copy that is there."""
    return tree_map(
        lambda value: value.cpu() if torch.is_tensor(value) else value,
        example_inputs,
    )


def largest_difference(expected: List[Tensor], found: List[Tensor]) -> float:
    """Largest difference between two lists of tensors; not a number if any
    value is not, infinite if they are not as many or of other shapes.

    Example:
        >>> largest_difference([torch.zeros(2)], [torch.tensor([0.0, -0.5])])
        0.5
        >>> largest_difference([torch.zeros(2)], [torch.zeros(3)])
        inf
    """
    if [a.shape for a in expected] != [b.shape for b in found]:
        return float('inf')
    differences = [
        float((a.double() - b.to(a.device).double()).abs().max())
        for a, b in zip(expected, found)
        if a.numel()
    ]
    # Python's own max forgets what is not a number
    return float(torch.tensor(differences).max()) if differences else 0.0


def relative_difference(expected: List[Tensor], found: List[Tensor]) -> float:
    """:func:`largest_difference` as a fraction of the largest expected value,
    where that is above 1."""
    scale = max([1.0] + [float(a.abs().max()) for a in expected if a.numel()])
    return largest_difference(expected, found) / scale


def require_same(
    module: nn.Module,
    smaller: nn.Module,
    example_inputs: Any,
    tolerance: float = TOLERANCE,
    training: bool = False,
    expected: Optional[List[Tensor]] = None,
    others: bool = True,
) -> None:
    """Compare a module with a smaller one on the example inputs and others
    that it runs on, see :func:`~ppcd_mmagic.channels.probes.probes`.

    Args:
        module (nn.Module): On the CPU, as the smaller one.
        smaller (nn.Module): Without the dead channels.
        example_inputs (Tensor | tuple | dict): See
            :func:`~ppcd_mmagic.channels.mask_channels`.
        tolerance (float): See :func:`difference_of`.
        training (bool): Whether in training mode as well.
        expected (list[Tensor], optional): What is expected from the example
            inputs, if it was computed elsewhere.
        others (bool): Whether on others at all. Defaults to True.

    Raises:
        ExportMismatch: If they compute something else on any of them.
        PPCDError: If the smaller one does not run, or what they compute from
            the example inputs is not finite.
    """
    name = type(module).__name__
    example: List[Tensor] = []
    for probe in probes(module, example_inputs, training):
        expected = expected or _expected(module, probe, example)
        if probe.is_example:
            example = expected or []
        if expected is not None:
            try:
                difference = difference_of(
                    module, expected, smaller, probe, tolerance
                )
            except PPCDError:
                raise
            except Exception as error:  # whatever it makes of fewer channels
                raise does_not_run(name, probe.words, error) from error
            if not difference <= tolerance:
                raise ExportMismatch(
                    f'Without its dead channels {name} differs by '
                    f'{difference:.3g} (allowed: {tolerance}) on '
                    f'{probe.words}: {_ADVICE}'
                )
        expected = None
        if not others:
            return


def does_not_run(name: str, words: str, error: Exception) -> PPCDError:
    """What a forward makes of fewer channels."""
    return PPCDError(
        f'{name} does not run without its dead channels on {words} '
        f'({type(error).__name__}: {first_line(error)}): {_ADVICE}'
    )


def _expected(
    module: nn.Module, probe: Probe, example: List[Tensor]
) -> Optional[List[Tensor]]:
    """What a module computes; none where it is not known to be one of its
    inputs: it does not run, or gives nan or inf, or something of another
    kind than of the example inputs."""
    if probe.is_example:
        return _run(module, probe)
    try:
        found = _run(module, probe)
    except Exception:  # a size, class or batch that it does not take
        return None
    if not probe.training and not probe.is_taken(found, example):
        return None
    return found if all(bool(x.isfinite().all()) for x in found) else None


def _run(module: nn.Module, probe: Probe) -> List[Tensor]:
    return outputs_of(module, probe.inputs, probe.training, probe.seed)


def difference_of(
    module: nn.Module,
    expected: List[Tensor],
    smaller: nn.Module,
    probe: Probe,
    tolerance: float,
) -> float:
    """:func:`relative_difference` of a module, wherever it computed what is
    expected, and a smaller one on the CPU, where the inputs are; what is above
    the tolerance may be float32 that rounds or overflows.

    Raises:
        PPCDError: If what they compute is not finite.
    """
    difference = relative_difference(expected, _run(smaller, probe))
    if difference <= tolerance:
        return difference
    exact = difference_in_float64(module, smaller, probe)
    if all(bool(out.isfinite().all()) for out in expected):
        return difference if math.isnan(difference) else min(difference, exact)
    if not math.isfinite(exact):
        raise PPCDError(
            f'{type(module).__name__} computes nan or inf from the example '
            'inputs, so that what is left of it cannot be compared with it: '
            'look at its weights, or give inputs as it gets them in use.'
        )
    return exact


def difference_in_float64(
    module: nn.Module, other: nn.Module, probe: Probe
) -> float:
    """:func:`relative_difference` of copies that compute in float64; infinite
    where the module cannot (it makes single precision itself)."""
    inputs = tree_map(
        lambda value: (
            value.double()
            if torch.is_tensor(value) and value.is_floating_point()
            else value
        ),
        probe.inputs,
    )
    try:
        return relative_difference(
            *(
                _run(
                    deepcopy(each).cpu().double(), probe._replace(inputs=inputs)
                )
                for each in (module, other)
            )
        )
    except RuntimeError:
        return float('inf')
