"""Weights of terms: constant, on a schedule, or adapted during training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace

from ..errors import UsageError
from ..parts import registry


class Weight(ABC):
    """A weight that changes over training, as a function of progress from 0 to 1."""

    @abstractmethod
    def __call__(self, progress: float) -> float: ...

    def scaled(self, factor: float) -> Weight:
        """`factor` times this weight.

        Raises:
            UsageError: there is no such weight.
        """
        raise UsageError(f"{self} takes no factor, here {factor:g}: give the term one weight")

    def __str__(self) -> str:
        values = (getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{v:.12g}' for v in values)})"


WEIGHTS = registry.weight.of(Weight)


def check_fraction(weight: Weight, fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise UsageError(f"{weight}: the fraction of training must lie above 0 and at most at 1")


@registry.weight("constant")
@dataclass(frozen=True)
class constant(Weight):
    """The same value throughout."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value

    def scaled(self, factor: float) -> constant:
        return constant(factor * self.value)

    __str__ = Weight.__str__


@registry.weight("linear")
@dataclass(frozen=True)
class linear(Weight):
    """From `start` to `end` over the first `fraction` of training, then `end`. (Bowman et al., 2016, arXiv:1511.06349)"""

    start: float
    end: float
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check_fraction(self, self.fraction)

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * min(progress / self.fraction, 1.0)

    def scaled(self, factor: float) -> linear:
        return replace(self, start=factor * self.start, end=factor * self.end)


@registry.weight("late")
@dataclass(frozen=True)
class late(Weight):
    """0 until `start` of training, then a linear rise to `value` over `ramp` of it: for terms that must not act early."""

    value: float
    start: float = 0.4
    ramp: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.start < 1 and 0 <= self.ramp <= 1):
            raise UsageError(f"{self}: start and ramp are fractions of training, from 0 to 1, the start below 1")

    def __call__(self, progress: float) -> float:
        if progress < self.start:
            return 0.0
        return self.value * (min((progress - self.start) / self.ramp, 1.0) if self.ramp else 1.0)

    def scaled(self, factor: float) -> late:
        return replace(self, value=factor * self.value)

    __str__ = Weight.__str__


@registry.weight("cyclic")
@dataclass(frozen=True)
class cyclic(Weight):
    """`cycles` rises from `start` to `end`, each over `fraction` of its cycle. (Fu et al., 2019, arXiv:1903.10145)"""

    start: float
    end: float
    cycles: int = 4
    fraction: float = 0.5

    def __post_init__(self) -> None:
        check_fraction(self, self.fraction)
        if self.cycles < 1:
            raise UsageError(f"{self}: give at least one cycle")

    def __call__(self, progress: float) -> float:
        if progress >= 1:
            return self.end
        within = math.fmod(progress * self.cycles, 1.0)
        return self.start + (self.end - self.start) * min(within / self.fraction, 1.0)

    def scaled(self, factor: float) -> cyclic:
        return replace(self, start=factor * self.start, end=factor * self.end)


class AdaptiveWeight(Weight):
    """A weight adapted during training from its term's value. Stateless: the current weight is kept in `State.weights`."""

    @abstractmethod
    def updated(self, weight: float, value: float) -> float:
        """The next step's weight, from this step's and the batch mean of its term, nats per example."""


BOUNDS = 1e-4, 1e4
"""Bounds of an adaptive weight."""


@registry.weight("target_rate")
@dataclass(frozen=True)
class target_rate(AdaptiveWeight):
    """The weight at which its term equals `nats` per example, adapted during training: a rate in place of a β.

    log w ← log w + speed · clip(term / nats − 1, −1, 1) after every step, w from 1e-4 to 1e4, beginning at `start`. The sum
    over steps averages the noise of batches, so nothing else is smoothed. A term that is slow to answer, as of a latent that
    has collapsed, first overshoots. Where no weight brings it to the target, w ends at a bound. (An integral controller of
    log w, in kind like Rezende & Viola, 2018, arXiv:1810.00597, and Shao et al., 2020, arXiv:2004.05988)
    """

    nats: float
    start: float = 1.0
    speed: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.nats < math.inf:
            raise UsageError(f"{self}: the target is what the term shall come to, in nats per example, above 0, such as "
                             "target_rate(30)*kl; to go without the term leave it out")
        low, high = BOUNDS
        if not low <= self.start <= high:
            raise UsageError(f"{self}: the weight begins from {low:g} to {high:g}; 1 does for most, as in "
                             f"target_rate({self.nats:.12g})")
        if not 0 < self.speed <= 1:
            raise UsageError(f"{self}: the speed is the most that log w moves in a step, above 0 and at most 1; 0.01 does "
                             "for thousands of steps")

    def __call__(self, progress: float) -> float:
        """The weight at the start: later ones are kept in `State.weights`."""
        return self.start

    def updated(self, weight: float, value: float) -> float:
        low, high = BOUNDS
        error = min(max(value / self.nats - 1, -1.0), 1.0)
        return min(max(weight * math.exp(self.speed * error), low), high)

    def __str__(self) -> str:
        given = [getattr(self, f.name) for f in fields(self)]
        while len(given) > 1 and given[-1] == fields(self)[len(given) - 1].default:
            given.pop()
        return f"target_rate({', '.join(f'{v:.12g}' for v in given)})"
