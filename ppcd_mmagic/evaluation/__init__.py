from .class_accuracy import ClassAccuracy
from .domain_metric import (
    DomainMetric,
    build_classifier,
    class_distances,
    confusion_matrix,
    domain_quality,
    frechet_distance,
    kernel_distance,
    precision_and_recall,
    real_images,
    recognise,
    variety,
)
from .evaluators import metrics_of
from .real_pictures import (
    LabelledImages,
    RealStatistics,
    kept_statistics,
    real_statistics,
    spreads_of,
)
from .top1_accuracy import Top1Accuracy

__all__ = [
    'ClassAccuracy',
    'DomainMetric',
    'LabelledImages',
    'RealStatistics',
    'Top1Accuracy',
    'build_classifier',
    'class_distances',
    'confusion_matrix',
    'domain_quality',
    'frechet_distance',
    'kept_statistics',
    'kernel_distance',
    'metrics_of',
    'precision_and_recall',
    'real_images',
    'real_statistics',
    'recognise',
    'spreads_of',
    'variety',
]
