"""Measuring a model. `measure` runs a list of metrics, `'elbo, iw_nll(500), psnr'`, and returns their figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ..errors import ProcessLost
from ..parts.call import parse_list
from ..parts.registry import metric
from ..progress import Attempts
from ..tensors import Shape, at_once
from .evaluation import Evaluation, FactorTable, Unavailable
from .figures import PROTOCOL, Figure

STANDARD = ("elbo, iw_nll(100), psnr, ssim, perceptual, active_units, prior_auc, mutual_information, modellable, "
            "accuracy, codebook_usage, fd, fd_inf, kd, prdc, vendi, class_balance, memorisation, duplicates, sharpness, "
            "factors, training")
"""Everything; metrics that do not apply to a model or its images are skipped."""
OF_GANS = "prdc, duplicates, sharpness"
"""What is measured of a GAN at the end of training, with features that need no weights: whether its samples are varied."""

__all__ = ["OF_GANS", "PROTOCOL", "STANDARD", "Evaluation", "FactorTable", "Figure", "measure", "quick"]


def quick(image_shape: Shape) -> str:
    """What is measured at the end of training; none of these needs a feature network. The bound of many draws is of fewer
    images where they are large."""
    return (f"elbo, iw_nll(50, images={at_once(image_shape)}), psnr, ssim, active_units, prior_auc, accuracy, "
            "codebook_usage")


def measure(evaluation: Evaluation, metrics: str = STANDARD,
            progress: Callable[[str], None] | None = None, *, attempt: Attempts | None = None,
            skip_unavailable: bool | None = None) -> list[Figure]:
    """Runs the named metrics one after the other.

    Metrics that do not apply to this model or these images are skipped with `skip_unavailable`, the default for the lists
    `STANDARD` and `OF_GANS`, and refused otherwise. `progress` gets a line as each metric begins, and when one is
    skipped because a package is missing. `attempt` records why metrics were skipped; with it, a metric that fails is
    recorded there too, and the others are measured.

    Raises:
        UsageError: an unknown metric, before any has run; or a named one that cannot be measured here.
    """
    calls = [(call, metric.check(call, evaluation)) for call in parse_list(metrics)]
    skip = metrics in (STANDARD, OF_GANS) if skip_unavailable is None else skip_unavailable
    reported: set[str] = set()
    figures: list[Figure] = []
    for call, bound in calls:
        if progress:
            progress(f"measuring {call}")
        try:
            figures += [_sound(figure) for figure in metric.parts[call.name](*bound.args, **bound.kwargs)]
        except Unavailable as e:
            if not skip:
                raise Unavailable(f"{call}: {e}", short=e.short, report_reason=e.report_reason) from e
            if attempt is not None:
                attempt.unavailable[call.name] = e.short
            if progress and e.report_reason and str(e) not in reported:
                progress(f"left out: {e}")
                reported.add(str(e))
        except Exception as e:
            if attempt is None or isinstance(e, ProcessLost):
                raise
            attempt.failed(f"measuring {call}", e)
    return figures


def _sound(figure: Figure) -> Figure:
    """The figure, without an interval or a detail that is not finite.

    Raises:
        Unavailable: its value is not finite.
    """
    if not math.isfinite(figure.value):
        raise Unavailable(f"{figure.name} of these images is not finite", report_reason=True)
    kept = {name: values for name in ("interval", "detail")
            if (values := getattr(figure, name)) is not None and all(map(math.isfinite, values))}
    return replace(figure, **{"interval": None, "detail": None} | kept)
