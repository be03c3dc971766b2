from .class_accuracy import ClassAccuracy
from .domain_metric import (DomainMetric, LabelledImages, build_classifier,
                            confusion_matrix, domain_quality,
                            frechet_distance, real_images, recognise,
                            variety)
from .top1_accuracy import Top1Accuracy

__all__ = [
    'ClassAccuracy', 'DomainMetric', 'LabelledImages', 'Top1Accuracy',
    'build_classifier', 'confusion_matrix', 'domain_quality',
    'frechet_distance', 'real_images', 'recognise', 'variety'
]
