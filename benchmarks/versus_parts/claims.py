"""What may be said of who is ahead, by several networks and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum

from scipy.stats import kendalltau

from reparam.doctor.checks import REPEATED

LEAST_SEEDS = 3
"""Without so many trainings of each player nothing is claimed."""
DUPLICATES, VENDI = REPEATED, 3.0
"""A player with that share of repeated samples or more (from which on the report calls a model collapsed), or whose samples
amount to so few different images, is unable. What repeats less is judged: a lower bound would leave out who is ahead."""
Ranges = Mapping[str, Sequence[float]]
"""Figures of the seeds of a player, by network."""


class Verdict(Enum):
    """Of two groups of players."""

    FIRST = "ahead"
    SECOND = "behind"
    LEVEL = "level"
    DISAGREE = "networks disagree"
    FEW = "too few seeds"
    FIRST_UNABLE = "unable"
    SECOND_UNABLE = "others unable"
    BOTH_UNABLE = "all unable"
    MISSING = "not measured"
    MACHINES = "unlike processors"
    SEARCHING = "searches missing"


def unable(duplicates: Sequence[float], vendi: Sequence[float]) -> bool:
    """Whether most seeds of a player collapsed."""
    collapsed = sum(d >= DUPLICATES or v <= VENDI for d, v in zip(duplicates, vendi, strict=True))
    return 2 * collapsed > len(duplicates)


def apart(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether all figures of a are below all of b."""
    return max(a) < min(b)


def ahead(a: Mapping[str, Ranges], b: Mapping[str, Ranges]) -> Verdict:
    """What may be said of the players a against the players b, of a figure of which less is better.

    One side is ahead where one of its players has all its seeds below all seeds of every player of the other side, by every
    network; the player may be chosen, since it must beat each of the others. That player, and all of the other side, have
    `LEAST_SEEDS` seeds at least. Where networks name different sides, they disagree. Both sides hold players that are able, by
    name.
    """
    if not a or not b:
        return Verdict.MISSING
    enough_a, enough_b = (with_enough_seeds(side) for side in (a, b))
    networks = set.intersection(*(set(p) for p in (*a.values(), *b.values())))
    if len(enough_b) == len(b) and leads(enough_a, b, networks):
        return Verdict.FIRST
    if len(enough_a) == len(a) and leads(enough_b, a, networks):
        return Verdict.SECOND
    if (len(enough_a), len(enough_b)) != (len(a), len(b)):
        return Verdict.FEW
    named = {leads(a, b, {n}) - leads(b, a, {n}) for n in networks}
    return Verdict.DISAGREE if {1, -1} <= named else Verdict.LEVEL


def with_enough_seeds(side: Mapping[str, Ranges]) -> dict[str, Ranges]:
    return {name: of for name, of in side.items() if all(len(seeds) >= LEAST_SEEDS for seeds in of.values())}


def leads(a: Mapping[str, Ranges], b: Mapping[str, Ranges], networks: set[str]) -> bool:
    """Whether one of a is apart from all of b by all networks."""
    return any(all(apart(one[n], other[n]) for other in b.values() for n in networks) for one in a.values())


def agreement(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Kendall's τ-b of two orders of the same players: 1 alike, −1 reversed; NaN of fewer than two players."""
    names = [n for n in a if n in b and math.isfinite(a[n]) and math.isfinite(b[n])]
    if len(names) < 2:
        return math.nan
    return float(kendalltau([a[n] for n in names], [b[n] for n in names]).statistic)
