from .domain_metric import DomainMetric
from .top1_accuracy import Top1Accuracy

__all__ = ['DomainMetric', 'Top1Accuracy']
