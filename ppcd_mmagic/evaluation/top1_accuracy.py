from typing import Dict, List, Sequence

from mmengine.evaluator import BaseMetric

from ppcd_mmagic.registry import METRICS


@METRICS.register_module()
class Top1Accuracy(BaseMetric):
    """Fraction of images whose predicted label is right (for classifiers)."""

    default_prefix = 'classifier'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        self.results += [
            int(sample['pred_label'] == sample['gt_label']['label'])
            for sample in data_samples
        ]

    def compute_metrics(self, results: List[int]) -> Dict[str, float]:
        return dict(accuracy=sum(results) / len(results))
