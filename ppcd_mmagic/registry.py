"""Registries of the scope ``ppcd_mmagic``, children of MMagic's.

Configs with ``default_scope = 'ppcd_mmagic'`` find the parts here by their
bare names and fall back to MMagic's and MMEngine's. So do those of MMagic's
scope, once ``ppcd_mmagic`` is imported; any other scope names them as
``ppcd_mmagic.<part>``.
"""

from mmagic import registry as mmagic
from mmagic.utils import register_all_modules
from mmengine.registry import Registry

# MMagic fills its registries when they are asked, but not when a child is.
register_all_modules(init_default_scope=False)


class _SharedRegistry(Registry):
    """Registers in its parent, too: a registry looks into its parents and not
    its children, and MMagic's own inferencers and ``default_scope = 'mmagic'``
    ask MMagic's. A name that MMagic has is an error, as in one registry."""

    def _register_module(self, module, module_name=None, force=False):
        self.parent.register_module(module_name, force, module)
        super()._register_module(module, module_name, force)


def _child(parent: Registry, *locations: str) -> Registry:
    child = _SharedRegistry(
        parent.name,
        parent=parent,
        scope='ppcd_mmagic',
        locations=list(locations),
    )
    # where other scopes, and MMEngine's own, look for a name with a scope
    parent.parent._add_child(child)
    return child


MODELS = _child(mmagic.MODELS, 'ppcd_mmagic.models')
HOOKS = _child(mmagic.HOOKS, 'ppcd_mmagic.engine')
DATASETS = _child(mmagic.DATASETS, 'ppcd_mmagic.datasets')
METRICS = _child(mmagic.METRICS, 'ppcd_mmagic.evaluation')
DATA_SAMPLERS = _child(mmagic.DATA_SAMPLERS, 'ppcd_mmagic.datasets')
LOOPS = _child(mmagic.LOOPS, 'ppcd_mmagic.engine')
RUNNERS = _child(mmagic.RUNNERS, 'ppcd_mmagic.engine')

# Nothing is registered in these; they lead the default scope to MMagic's.
for _name in (
    'EVALUATORS',
    'LOG_PROCESSORS',
    'MODEL_WRAPPERS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'RUNNER_CONSTRUCTORS',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
):
    _child(getattr(mmagic, _name))
