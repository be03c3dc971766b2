from functools import partial
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from ppcd_mmagic.building import building
from ppcd_mmagic.channels import named_masks
from ppcd_mmagic.errors import PPCDError
from ppcd_mmagic.generators import (
    FeatureTap,
    TrainedGenerator,
    common_features,
    generators_of,
)
from ppcd_mmagic.models.losses import build_distillation_losses, compared
from ppcd_mmagic.registry import HOOKS, MODELS
from ..optimizers import holds_only, optim_wrapper_of
from .mask_binarization_hook import masked_generators


class _Pass(NamedTuple):
    """One forward pass of a generator."""

    nodes: Set[Any]  # of the autograd graph, which wrote its outputs
    args: tuple
    kwargs: dict
    output: Any
    features: Dict[int, Tensor]


@HOOKS.register_module()
class ExtraLossesHook(Hook):
    """L_PP and L_CD (Eq. 8) in a model that does not know of them.

    They are added to what the model hands to the optimizer of its generator
    (``update_params`` or ``backward`` of the wrapper), wherever that depends
    on an image of the generator. So they are scaled as the model's own losses
    are, in mixed precision and where gradients are accumulated; images that
    were detached or made without gradients, evaluation and the losses of a
    discriminator get none. L_PP is added once to each such loss, L_CD for
    each of the passes that the loss depends on (a CycleGAN runs a generator
    three times). Both are logged beside the model's losses; where a model has
    several generators, under the name of each.

    Not for :class:`PPCDGAN`, which has both losses itself.

    Args:
        pruning_loss (dict, optional): L_PP. None drops it. Defaults to
            :class:`MaskL1Loss`.
        teacher (dict, optional): A :class:`GeneratorTeacher`, which is run on
            the arguments of each pass. None trains without distillation.
        distillation_loss (dict | Sequence[dict]): L_CD, or several losses
            that compare features or images, such as
            :class:`PixelDistillationLoss`. Defaults to
            :class:`AttentionDistillationLoss`.
        distill_layers (str | Sequence[str]): Layers of the generator that are
            compared with the teacher's of the same height. Defaults to
            'conv_blocks.*'.

    Raises:
        PPCDError: Before the training, if neither loss is asked for, there
            are no masks, no or several optimizers hold the generator, there
            is a teacher for several generators, or a loss compares what a
            discriminator makes of the images; in the first step, if the
            losses do not reach the generator, the model has a loss of the
            same name, or images are compared and there is not one of each.

    Example:
        >>> default_hooks = dict(
        ...     extra_losses=dict(
        ...         type='ExtraLossesHook',
        ...         pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
        ...     ),
        ...     mask_binarization=dict(
        ...         type='MaskBinarizationHook', alpha=0.6, schedule='cubic'
        ...     ),
        ... )
        >>> hook = HOOKS.build(default_hooks['extra_losses'])
        >>> hook.pruning_loss
        MaskL1Loss()
    """

    # writes into the losses of a step before others read them
    priority = 'HIGHEST'

    def __init__(
        self,
        pruning_loss: Optional[dict] = dict(type='ppcd_mmagic.MaskL1Loss'),
        teacher: Optional[dict] = None,
        distillation_loss: Union[dict, Sequence[dict]] = dict(
            type='ppcd_mmagic.AttentionDistillationLoss'
        ),
        distill_layers: Union[str, Sequence[str]] = 'conv_blocks.*',
    ) -> None:
        if pruning_loss is None and teacher is None:
            raise PPCDError(
                'ExtraLossesHook has nothing to add: give a '
                'pruning_loss or a teacher.'
            )
        self.pruning_loss = pruning_loss and MODELS.build(pruning_loss)
        self.distillation_losses = build_distillation_losses(
            distillation_loss,
            ('features', 'images'),
            [self.pruning_loss.loss_name()] if self.pruning_loss else [],
            type(self).__name__,
        )
        self._teacher = teacher
        self.teacher: Any = None
        self.distill_layers = distill_layers
        self._logs: Dict[str, List[Tensor]] = {}
        self._remove: List[Any] = []
        self._logged_sizes: List[int] = []

    def before_train(self, runner: Runner) -> None:
        # only a training needs its weights
        with building('the teacher of ExtraLossesHook'):
            self.teacher = self._teacher and MODELS.build(self._teacher)
        generators = generators_of(runner.model)
        if self.pruning_loss:
            # a generator of several may be without masks
            generators = masked_generators(runner, type(self).__name__)
        if self.teacher and len(generators) > 1:
            raise PPCDError(
                'ExtraLossesHook has one teacher, but '
                f'{", ".join(g.name for g in generators)} are trained.'
            )
        everything = [g.module for g in generators_of(runner.model)]
        added: Dict[int, _AddedLosses] = {}
        for generator in generators:
            wrapper = optim_wrapper_of(runner.optim_wrapper, generator.module)
            if wrapper is None:
                raise PPCDError(
                    f'No optimizer holds parameters of {generator.name}: its '
                    'losses would train nothing.'
                )
            if id(wrapper) not in added:
                added[id(wrapper)] = _AddedLosses(
                    wrapper, holds_only(wrapper, *everything)
                )
            source = _Source(self, generator)
            added[id(wrapper)].sources.append(source)
            self._remove.append(source.remove)
        self._remove += [to.remove for to in added.values()]
        self._added = list(added.values())

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        self._logs = {}
        for added in self._added:
            added.begin()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        known = set(self._logs) & set(outputs or ())
        if known:
            raise PPCDError(
                f'{type(runner.model).__name__} has the loss '
                f'{sorted(known)[0]} itself: remove ExtraLossesHook, or give '
                'its loss another loss_name.'
            )
        if isinstance(outputs, dict):
            # as MMagic's models do where they take several steps
            outputs.update(
                {
                    name: torch.stack(values).mean()
                    for name, values in self._logs.items()
                }
            )

    def log(self, name: str, value: Tensor) -> None:
        """Note a loss of this iteration."""
        self._logs.setdefault(name, []).append(value)

    def distances(self, one: _Pass) -> Dict[str, Tensor]:
        """The distillation losses of one pass, by name."""
        (first,) = [*one.args, *one.kwargs.values()][:1]
        if not isinstance(first, Tensor):
            raise PPCDError(
                'The generator draws its input itself, so that the teacher '
                'cannot be given the same: hand it tensors.'
            )
        output, features = self.teacher.draw(*one.args, **one.kwargs)
        sides = dict(
            features=lambda: self._common(one.features, features),
            images=lambda: (_image(one.output), _image(output)),
        )
        losses: Iterable[Any] = self.distillation_losses
        return {
            loss.loss_name(): loss(*sides[compared(loss)]()) for loss in losses
        }

    def _common(
        self, student: Dict[int, Tensor], teacher: Dict[int, Tensor]
    ) -> Tuple[dict, dict]:
        """The features that both have; the log says once which."""
        student, teacher = common_features(student, teacher)
        if self._logged_sizes != list(student):
            self._logged_sizes = list(student)
            print_log(
                f'distillation compares features of {list(student)} pixels',
                'current',
            )
        return student, teacher

    def after_train(self, runner: Runner) -> None:
        for remove in self._remove:
            remove()
        self._remove = []


class _Source:
    """The losses of one generator, and its passes in this iteration."""

    def __init__(
        self, hook: ExtraLossesHook, generator: TrainedGenerator
    ) -> None:
        self.hook = hook
        self.name = generator.name
        self.module = generator.module
        self.suffix = generator.short_name and f'_{generator.short_name}'
        self.passes: List[_Pass] = []
        self._tap = None
        if hook.teacher:
            hook.teacher.to(next(self.module.parameters()).device)
            self._tap = FeatureTap(self.module, hook.distill_layers)
        self._handles = [
            self.module.register_forward_pre_hook(self._enter),
            self.module.register_forward_hook(self._note, with_kwargs=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _watches(self) -> bool:
        return self.module.training and torch.is_grad_enabled()

    def _enter(self, module: Any, args: tuple) -> None:
        if self._tap and self._watches():
            self._tap.__enter__()

    def _note(self, module: Any, args: tuple, kwargs: dict, out: Any) -> None:
        if not self._watches():
            return
        features = {}
        if self._tap:
            self._tap.__exit__()
            features, self._tap.features = self._tap.by_resolution(), {}
        nodes = {tensor.grad_fn for tensor in _tensors(out)} - {None}
        self.passes.append(_Pass(nodes, args, kwargs, out, features))

    def losses(self, graph: Set[Any]) -> Dict[str, Tensor]:
        """Those that belong to a loss, by name; none where it does not depend
        on an output."""
        reached = [p for p in self.passes if not p.nodes.isdisjoint(graph)]
        if not reached:
            return {}
        # never twice, where a model calls backward twice
        self.passes = [p for p in self.passes if p not in reached]
        hook, found = self.hook, {}
        if hook.pruning_loss:
            found[hook.pruning_loss.loss_name() + self.suffix] = (
                hook.pruning_loss(mask for _, mask in named_masks(self.module))
            )
        if hook.teacher:
            of_passes = [hook.distances(one) for one in reached]
            for name in of_passes[0]:
                found[name + self.suffix] = sum(d[name] for d in of_passes)
        for name, value in found.items():
            hook.log(name, value.detach())
        return found


class _AddedLosses:
    """Stands before an optimizer wrapper and adds to its losses."""

    def __init__(self, wrapper: OptimWrapper, only: bool) -> None:
        self.wrapper = wrapper
        self.only = only
        self.sources: List[_Source] = []
        self._inside = False
        for name in ('update_params', 'backward'):
            setattr(wrapper, name, partial(self._call, getattr(wrapper, name)))

    def remove(self) -> None:
        del self.wrapper.update_params, self.wrapper.backward

    def begin(self) -> None:
        """A new iteration: what was not used by now never is."""
        self._called = False
        for source in self.sources:
            source.passes.clear()

    def _call(self, original: Any, loss: Tensor, *args, **kwargs) -> Any:
        inside = self._inside  # update_params calls backward
        if not inside:
            loss = self._with_losses(loss)
        self._inside = True
        try:
            return original(loss, *args, **kwargs)
        finally:
            self._inside = inside

    def _with_losses(self, loss: Tensor) -> Tensor:
        graph = _graph(loss)
        found = [
            value
            for source in self.sources
            for value in source.losses(graph).values()
        ]
        if self.only and not found and not self._called:
            names = ', '.join(source.name for source in self.sources)
            raise PPCDError(
                f'ExtraLossesHook cannot add its losses: what the optimizer '
                f'of {names} is given does not depend on an output of its '
                'forward in training mode. Add the losses in the train step '
                'of the model.'
            )
        self._called = True
        return loss + sum(found)


def _tensors(out: Any) -> List[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    values = out.values() if isinstance(out, dict) else out
    if not isinstance(out, (dict, list, tuple)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


def _image(out: Any) -> Tensor:
    """The one that a generator gives."""
    tensors = _tensors(out)
    if len(tensors) != 1:
        raise PPCDError(
            'ExtraLossesHook compares images, but a generator gives '
            f'{len(tensors)} tensors instead of one: take a distillation_loss '
            'that compares features.'
        )
    return tensors[0]


def _graph(loss: Tensor) -> Set[Any]:
    """All nodes of the autograd graph below a loss."""
    found, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return found
