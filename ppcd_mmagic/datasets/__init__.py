from .classes import class_names
from .digits_dataset import DigitsDataset
from .picture_folder import PictureFolder
from .pictures import ENDINGS, fault_of, faults_in, fingerprint, pictures_in
from .resumable_sampler import ResumableSampler

__all__ = [
    'ENDINGS',
    'DigitsDataset',
    'PictureFolder',
    'ResumableSampler',
    'class_names',
    'fault_of',
    'faults_in',
    'fingerprint',
    'pictures_in',
]
