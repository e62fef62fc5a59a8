"""How long training goes on, how the machine computes it, and how it steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

from ..errors import UsageError
from ..parts.recipe import Recipe


@dataclass(frozen=True)
class Budget:
    """What a training run may spend: it ends after `steps` or `minutes`, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None
    clock: Callable[[], float] = time.perf_counter
    """Seconds, of which the minutes are counted: the wall's by default; `time.process_time` counts what this process
    computes, whatever else runs."""
    precision: str = "float32"
    """'float32', or 'bf16' where the machine computes in it."""
    compile: bool = False
    """Whether the step is compiled: slow to start, faster afterwards."""

    def check(self) -> None:
        """
        Raises:
            UsageError: there is no end, or one that is not above 0.
        """
        if (self.steps is None and self.minutes is None) or min(n for n in (self.steps, self.minutes) if n is not None) <= 0:
            raise UsageError(f"training needs an end: give steps, minutes or both, above 0; got {self.steps} and "
                             f"{self.minutes}")

    def seconds(self, rate: float) -> float:
        """About how long training goes on at `rate` steps a second."""
        return min((self.steps or math.inf) / rate, 60 * (self.minutes or math.inf))

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the budget that so many steps and seconds have used, at most 1."""
        by_steps = steps / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(by_steps, by_time), 1.0)


@dataclass(frozen=True)
class Optimization:
    """How the loop steps: what a recipe says of it."""

    optimizer: str = "muon(lr=0.02)"
    critic_optimizer: str = "adamw(lr=4e-4, betas=(0.5, 0.99))"
    schedule: str = "cosine(warmup=0.05)"
    """Of the learning rates, over the budget."""
    clip: float = 2.0
    """Gradient norms above so many times their running median are scaled down; 0 for never."""
    ema: float = 0.999
    """Decay of the averaged weights; 0 for none."""
    accumulate: int = 1
    """Pieces that a batch is computed in, to save memory."""
    compress_gradients: bool = False
    """Whether several processes exchange gradients in bfloat16."""

    @staticmethod
    def of(recipe: Recipe) -> Optimization:
        """That of a recipe."""
        return Optimization(**{f.name: getattr(recipe, f.name) for f in fields(Optimization)})
