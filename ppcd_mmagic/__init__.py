"""PPCD-GAN for MMagic: compress class-conditional GANs while they train."""
from . import compat  # isort: skip  # first: it makes MMagic importable
from . import datasets, engine, evaluation, models
from .errors import PPCDError

__version__ = '0.1.0'
__all__ = ['PPCDError', 'compat', 'datasets', 'engine', 'evaluation', 'models']
