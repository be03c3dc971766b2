from .digits_dataset import DigitsDataset
from .resumable_sampler import ResumableSampler

__all__ = ['DigitsDataset', 'ResumableSampler']
