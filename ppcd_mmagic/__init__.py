"""PPCD-GAN for MMagic: compress class-conditional GANs while they train."""

from . import compat  # isort: skip  # first: it makes MMagic importable
from . import datasets, engine, evaluation, models
from .errors import PPCDError
from .version import __version__

__all__ = [
    'PPCDError',
    '__version__',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'models',
]
