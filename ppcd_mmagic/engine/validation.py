"""What a validation will find, as far as its settings tell."""

from typing import Any, Iterable, List

from mmengine.runner import Runner

from ppcd_mmagic.errors import PPCDError


def validation_metrics(runner: Runner) -> List[Any]:
    """The metrics of a training's validation, of all its data sets; none where
    there is no validation."""
    loop = runner.val_loop
    evaluators = getattr(loop, 'evaluators', None)
    if evaluators is None:
        evaluators = [getattr(loop, 'evaluator', None)]
    return [
        metric
        for each in evaluators
        for metric in getattr(each, 'metrics', None) or []
    ]


def require_names(
    metrics: List[Any], names: Iterable[str], setting: str
) -> None:
    """Refuse names that no metric can give.

    A metric names what it finds after its family (``prefix``): 'domain' in
    'domain/frechet'. What the rest of a name may be is known when it has
    been computed, and so are all names of a metric without a family.

    Args:
        metrics (list): See :func:`validation_metrics`.
        names (Iterable[str]): As the log has them.
        setting (str): Where they were given, for the error.

    Raises:
        PPCDError: If none of the metrics has their family.

    Example:
        >>> require_names([DomainMetric(...)], ['fid'], 'save_best')
        Traceback (most recent call last):
        ppcd_mmagic.errors.PPCDError: save_best="fid" is nothing that the
        validation gives: its metrics begin with domain/.
    """
    families = {metric.prefix for metric in metrics}
    if not all(families):
        return
    beginnings = tuple(f'{family}/' for family in sorted(families))
    for name in names:
        if not name.startswith(beginnings):
            raise PPCDError(
                f'{setting}="{name}" is nothing that the validation gives: '
                + (
                    f'its metrics begin with {", ".join(beginnings)}. Name '
                    'one of them as the log does.'
                    if beginnings
                    else 'it has no metrics. Set val_evaluator.metrics.'
                )
            )
