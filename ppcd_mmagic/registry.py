"""Registries of the scope ``ppcd_mmagic``, children of MMagic's.

Configs with ``default_scope = 'ppcd_mmagic'`` find the parts here by their
bare names and fall back to MMagic's and MMEngine's. So do those of MMagic's
scope, once ``ppcd_mmagic`` is imported; any other scope names them as
``ppcd_mmagic.<part>``.
"""
from typing import List

from mmagic import registry as mmagic
from mmagic.utils import register_all_modules
from mmengine.registry import Registry

# MMagic fills its registries when they are asked, but not when a child is.
register_all_modules(init_default_scope=False)

_ALL: List[Registry] = []


def _child(parent: Registry, *locations: str) -> Registry:
    registry = Registry(
        parent.name,
        parent=parent,
        scope='ppcd_mmagic',
        locations=list(locations))
    _ALL.append(registry)
    return registry


MODELS = _child(mmagic.MODELS, 'ppcd_mmagic.models')
HOOKS = _child(mmagic.HOOKS, 'ppcd_mmagic.engine')
DATASETS = _child(mmagic.DATASETS, 'ppcd_mmagic.datasets')
METRICS = _child(mmagic.METRICS, 'ppcd_mmagic.evaluation')
RUNNERS = _child(mmagic.RUNNERS, 'ppcd_mmagic.engine')

# Nothing is registered in these; they lead the default scope to MMagic's.
for _name in ('DATA_SAMPLERS', 'EVALUATORS', 'LOG_PROCESSORS', 'LOOPS',
              'MODEL_WRAPPERS', 'OPTIMIZERS', 'OPTIM_WRAPPERS',
              'OPTIM_WRAPPER_CONSTRUCTORS', 'PARAM_SCHEDULERS',
              'RUNNER_CONSTRUCTORS', 'TASK_UTILS', 'TRANSFORMS', 'VISBACKENDS',
              'VISUALIZERS', 'WEIGHT_INITIALIZERS'):
    _child(getattr(mmagic, _name))


def offer_to_mmagic() -> None:
    """Let MMagic's scope find what is registered here by its bare name.

    A registry looks into its parents, not its children, and MMagic's own
    inferencers and ``default_scope = 'mmagic'`` ask MMagic's.

    Raises:
        KeyError: If MMagic has another part of that name.
    """
    for registry in _ALL:
        for name, part in registry.module_dict.items():
            registry.parent.register_module(name, module=part)
