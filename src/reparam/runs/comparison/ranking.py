"""Which model is best at a figure, as far as confidence intervals separate them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...functional.intervals import student
from ...metrics.catalogue import FigureType, find
from ...metrics.figures import Figure


def with_target(kind: FigureType, values: Mapping[str, float]) -> FigureType:
    """The type with the number of its target, which may be another figure of the evaluation; without a direction where that
    one was not measured."""
    if not isinstance(kind.target, str):
        return kind
    if kind.target in values:
        return replace(kind, target=values[kind.target])
    return replace(kind, target=None, why_neither=f"{kind.target} was not measured")


@dataclass(frozen=True)
class Cell:
    """A figure of one model: of its run, or the mean over its runs."""

    value: float
    interval: tuple[float, float] | None
    figures: tuple[Figure, ...]
    """Of each run."""

    def to_dict(self) -> dict[str, Any]:
        first = self.figures[0].to_dict()
        kept = {k: first[k] for k in ("unit", "n", "features", "resize", "warning", "note") if k in first}
        made: dict[str, Any] = {"value": self.value} | ({"interval": list(self.interval)} if self.interval else {})
        return made | kept | {"seeds": len(self.figures), "each": [f.value for f in self.figures]}


def pooled(figures: Sequence[Figure]) -> Cell:
    """The cell of one figure of several runs: the mean, and a 95 % interval.

    Of one run the interval is its own, over images. Of k runs it is Student's over runs, ± t(0.975, k − 1) s / √k, and never
    narrower than a run's own on average: what all runs share, the images, does not vary between them.
    """
    values = [f.value for f in figures]
    if len(values) == 1:
        return Cell(values[0], figures[0].interval, tuple(figures))
    k, mean = len(values), math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (k - 1))
    between = student(k - 1) * spread / math.sqrt(k)
    own = [(f.interval[1] - f.interval[0]) / 2 for f in figures if f.interval]
    half = max(between, sum(own) / len(own) if own else 0.0)
    kind = find(figures[0].name)
    return Cell(mean, (max(mean - half, kind.least), min(mean + half, kind.most)), tuple(figures))


@dataclass(frozen=True)
class Standing:
    """The ranking of models by one figure."""

    best: tuple[str, ...] = ()
    """The model with the best value, then those whose intervals overlap its own: they are tied."""
    behind: tuple[str, ...] = ()
    """Models whose intervals do not overlap the best one's, best first."""
    why_not: str = ""
    """Why models are not ranked by this figure."""

    def tag(self, name: str) -> str:
        """'best', 'tied' for best, 'behind', or '' of a model that is not ranked."""
        if name in self.behind:
            return "behind"
        if name not in self.best:
            return ""
        return "best" if self.alone == name else "tied"

    @property
    def alone(self) -> str | None:
        """The one model that is better than all others."""
        return self.best[0] if len(self.best) == 1 and self.behind else None

    @property
    def words(self) -> str:
        if self.why_not:
            return self.why_not
        if self.alone:
            return f"{self.alone} is best"
        names = listed(self.best)
        return f"{names} are tied" + " for best" * bool(self.behind)


def rank(kind: FigureType, cells: Mapping[str, Cell], *, why_not: str = "") -> Standing:
    """Ranks models by one figure, whose target, if it has one, is a number; `why_not` says why they cannot be ranked.

    Models whose intervals overlap the best one's are tied with it. Where a value is to be near a target, values and
    intervals are those of the distance to it.
    """
    if kind.why_neither or why_not:
        return Standing(why_not=why_not or f"not ranked: {kind.why_neither}")
    if len(cells) < 2:
        return Standing(why_not=f"measured of {next(iter(cells))} only" if cells else "not measured")
    bare = [model for model, cell in cells.items() if cell.interval is None]
    if bare:
        return Standing(why_not="not ranked: no interval")
    order = sorted(cells, key=lambda model: cost(kind, cells[model])[0])
    _, _, worst_of_best = cost(kind, cells[order[0]])
    tied = [model for model in order if cost(kind, cells[model])[1] <= worst_of_best]
    return Standing(tuple(tied), tuple(model for model in order if model not in tied))


def cost(kind: FigureType, cell: Cell) -> tuple[float, float, float]:
    """A cell and the ends of its interval as numbers of which lower ones are better: (value, least, most)."""
    low, high = cell.interval or (cell.value, cell.value)
    if kind.better == "lower":
        return cell.value, low, high
    if kind.better == "higher":
        return -cell.value, -high, -low
    target = float(kind.target or 0.0)
    ends = abs(low - target), abs(high - target)
    return abs(cell.value - target), 0.0 if low <= target <= high else min(ends), max(ends)


def listed(names: Sequence[str], last: str = "and") -> str:
    """'a, b and c'."""
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else "".join(names)
