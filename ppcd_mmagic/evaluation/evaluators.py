"""What a config says of its metrics."""

from typing import Any, Iterator


def metrics_of(evaluators: Any) -> Iterator[Any]:
    """Metrics of an evaluator, or of several for as many data sets.

    Args:
        evaluators (dict | list | None): ``val_evaluator`` or
            ``test_evaluator`` of a config; its metrics may be one or several.

    Example:
        >>> list(metrics_of(dict(metrics=dict(type='FID-Full-50k'))))
        [{'type': 'FID-Full-50k'}]
    """
    if isinstance(evaluators, list):
        for evaluator in evaluators:
            yield from metrics_of(evaluator)
    elif evaluators:
        metrics = evaluators.get('metrics') or []
        yield from [metrics] if isinstance(metrics, dict) else metrics
