"""Registries of the scope ``ppcd_mmagic``, children of MMagic's.

Configs with ``default_scope = 'ppcd_mmagic'`` find the parts here by their
bare names and fall back to MMagic's and MMEngine's; configs of any other
scope name them as ``ppcd_mmagic.<part>``.
"""
from mmagic.registry import DATASETS as MMAGIC_DATASETS
from mmagic.registry import HOOKS as MMAGIC_HOOKS
from mmagic.registry import METRICS as MMAGIC_METRICS
from mmagic.registry import MODELS as MMAGIC_MODELS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMAGIC_MODELS,
    scope='ppcd_mmagic',
    locations=['ppcd_mmagic.models'])
HOOKS = Registry(
    'hook',
    parent=MMAGIC_HOOKS,
    scope='ppcd_mmagic',
    locations=['ppcd_mmagic.engine'])
DATASETS = Registry(
    'dataset',
    parent=MMAGIC_DATASETS,
    scope='ppcd_mmagic',
    locations=['ppcd_mmagic.datasets'])
METRICS = Registry(
    'metric',
    parent=MMAGIC_METRICS,
    scope='ppcd_mmagic',
    locations=['ppcd_mmagic.evaluation'])
