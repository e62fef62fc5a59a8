"""Weights of terms: constant, on a schedule, or adapted during training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Annotated

from ..errors import UsageError
from ..parts import registry
from ..parts.ranges import above, at_least, between


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
Fraction = Annotated[float, above(0, up_to=1)]
"""Of training."""


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
    fraction: Fraction = 1.0

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * min(progress / self.fraction, 1.0)

    def scaled(self, factor: float) -> linear:
        return replace(self, start=factor * self.start, end=factor * self.end)


@registry.weight("cosine")
@dataclass(frozen=True)
class cosine(Weight):
    """From `start` to `end` by half a period of a cosine over the first `fraction` of training, then `end`: as the
    penalties of R3GAN fall (Huang et al., 2024, arXiv:2501.05441)."""

    start: float
    end: float
    fraction: Fraction = 1.0

    def __call__(self, progress: float) -> float:
        done = (1 - math.cos(math.pi * min(progress / self.fraction, 1.0))) / 2
        return self.start + (self.end - self.start) * done

    def scaled(self, factor: float) -> cosine:
        return replace(self, start=factor * self.start, end=factor * self.end)


@registry.weight("late")
@dataclass(frozen=True)
class late(Weight):
    """0 until `start` of training, then a linear rise to `value` over `ramp` of it: for terms that must not act early."""

    value: float
    start: Annotated[float, at_least(0, below=1)] = 0.4
    ramp: Annotated[float, between(0, 1)] = 0.1

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
    cycles: Annotated[int, at_least(1)] = 4
    fraction: Fraction = 0.5

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

    nats: Annotated[float, above(0, advice="Give what the term shall come to, such as target_rate(30)*kl; to go without "
                                           "the term leave it out")]
    start: Annotated[float, between(*BOUNDS, advice="1 does for most")] = 1.0
    speed: Annotated[float, above(0, up_to=1, advice="It is the most that log w moves in a step; 0.01 does for thousands "
                                                     "of steps")] = 0.01

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
