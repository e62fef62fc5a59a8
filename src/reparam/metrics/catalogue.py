"""What is known of a figure before it is measured: its group, unit, direction, target and range.

A metric declares its figures where it is registered:

    COVERAGE = FigureType("coverage", "Samples", "of the real images", "real images with a sample near them", "higher")

    @metric("coverage")
    @measures(COVERAGE)
    def coverage(evaluation: Evaluation) -> list[Figure]:
        ...
        return [COVERAGE.of(value, n, interval)]
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from torch import Tensor

from ..parts.registry import metric
from .figures import Better, Figure, mean_figure

Group = Literal["Samples", "Reconstructions", "Likelihood", "Latent space", "Factors", "Training", "Other"]
GROUPS: tuple[Group, ...] = ("Samples", "Reconstructions", "Likelihood", "Latent space", "Factors", "Training", "Other")
"""Headings of figures, in the order in which they are shown."""
Measure = TypeVar("Measure", bound=Callable[..., list[Figure]])


@dataclass(frozen=True)
class FigureType:
    """A kind of figure: what it measures, in which unit, and which way is better."""

    name: str
    """Without arguments and layer: `iw_nll` of `iw_nll(100)`, `kl` of `kl of layer 2`."""
    group: Group
    unit: str
    """`{total}` in it stands for `Figure.total`."""
    meaning: str
    """What it measures, in words that a sentence can use."""
    better: Better = None
    why_neither: str = ""
    """Why neither way is better, where `better` is None and there is no target."""
    target: float | str | None = None
    """The value to be near to, or the name of the figure of the same evaluation that gives it."""
    least: float = -math.inf
    most: float = math.inf
    """The range of values that it can take."""
    null: float | None = None
    """The value where nothing is wrong, such as that of fresh real images in place of samples."""
    headline: bool = True
    """Whether it counts in the summary of a comparison; False for figures that repeat what another one says."""
    absent: str = ""
    """Why a metric that was measured may leave this figure out."""
    also: str = ""
    """Its name with the feature network by which the literature defines it, such as FID."""

    def __post_init__(self) -> None:
        if (self.better is None and self.target is None) != bool(self.why_neither):
            raise ValueError(f"{self.name}: give `better`, a `target`, or `why_neither`, and no two of them")

    @property
    def undirected(self) -> str:
        """Why neither way is better; '' where one is."""
        return self.why_neither or (f"best near {self.target}" if self.target is not None else "")

    def of(self, value: float, n: int, interval: tuple[float, float] | None = None, note: str = "", **more: Any) -> Figure:
        """A figure of this type; `more` are other fields of `Figure`."""
        return self._with_type(Figure(self.name, value, "", n, interval, note), more)

    def mean(self, values: Tensor | np.ndarray, note: str = "", *, share: bool | None = None, **more: Any) -> Figure:
        """The mean of values over images with its interval, as by `mean_figure`; `more` are other fields of `Figure`."""
        return self._with_type(mean_figure(self.name, values, "", note, share=share), more)

    def _with_type(self, figure: Figure, more: dict[str, Any]) -> Figure:
        unit = self.unit.format(total=more.get("total")) + " (density)" * bool(more.get("is_density"))
        known = {"unit": unit, "better": self.better, "undirected": self.undirected, "null": self.null}
        return replace(figure, **known | more)


_DECLARED: dict[Callable[..., Any], tuple[FigureType, ...]] = {}


def measures(*types: FigureType) -> Callable[[Measure], Measure]:
    """Declares the figures that a metric returns."""

    def declare(function: Measure) -> Measure:
        _DECLARED[function] = types
        return function

    return declare


def types_of(metric_name: str) -> tuple[FigureType, ...]:
    """The figures that a registered metric declares; none where it does not say."""
    return _DECLARED.get(inspect.unwrap(metric.parts[metric_name]), ())


def find(name: str) -> FigureType:
    """The type of the figure of this name; one in the group Other, without a direction, where no metric declares it."""
    known = {each: kind for m in metric.parts for kind in types_of(m) for each in (kind.name, kind.also) if each}
    plain = re.sub(r"\([^)]*\)", "", name).strip()
    return known.get(plain) or known.get(re.sub(r" of layer \d+$", "", plain)) or OTHER


def metric_of(name: str) -> str | None:
    """The metric that measures the figure of this name."""
    return next((m for m in metric.parts if find(name) in types_of(m)), None)


OTHER = FigureType("", "Other", "", "", why_neither="no metric of this program declares it")
