"""Successive halving: many settings for a short time, the best of them for a longer one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """How many settings are tried, and for how long each."""

    settings: int
    seconds: float


def best(judged: Sequence[tuple[int, float]], n: int) -> list[int]:
    """The numbers of the n settings with the least figure, best first; what could not be judged (NaN) comes last."""
    return [i for i, _ in sorted(judged, key=lambda j: (j[1] != j[1], j[1], j[0]))[:n]]


def halving(rungs: Sequence[Rung], judge: Callable[[int, Rung], float]) -> int:
    """The number of the setting that is best on the last rung.

    The first rung tries settings 0, 1, …; each further one the best of the rung before it. Figures of different rungs are not
    compared, since more time helps all. (Jamieson & Talwalkar, 2016, arXiv:1502.07943)

    Args:
        rungs: with ever fewer settings.
        judge: the figure of a setting after the seconds of a rung, less is better.
    """
    standing = list(range(rungs[0].settings))
    for rung in rungs:
        standing = standing[: rung.settings]
        standing = best([(i, judge(i, rung)) for i in standing], len(standing))
    return standing[0]
