"""Measuring a model. `measure` runs a list of metrics, `'elbo, iw_nll(500), psnr'`, and returns their figures."""

from __future__ import annotations

from collections.abc import Callable

from ..recipe import parse_list
from ..registry import metric
from .evaluation import Evaluation
from .figures import PROTOCOL, Figure

STANDARD = "elbo, iw_nll(100), psnr, active_units, prior_auc, accuracy, codebook_usage"
QUICK = "elbo, iw_nll(50, images=250), psnr, active_units, prior_auc, accuracy, codebook_usage"
"""What is measured at the end of training."""

__all__ = ["PROTOCOL", "QUICK", "STANDARD", "Evaluation", "Figure", "measure"]


def measure(evaluation: Evaluation, metrics: str = STANDARD,
            progress: Callable[[str], None] | None = None) -> list[Figure]:
    """Runs the named metrics one after the other.

    Raises:
        UsageError: an unknown metric, before any has run.
    """
    calls = [(call, metric.check(call, evaluation)) for call in parse_list(metrics)]
    figures: list[Figure] = []
    for call, bound in calls:
        if progress:
            progress(str(call))
        figures += metric.parts[call.name](*bound.args, **bound.kwargs)
    return figures
