"""Keeping a run alive: which steps to take, scale down or skip, and when to return to an earlier state.

Losses here are sums in nats, so their gradients' sizes differ by orders of magnitude between data sets. Every bound is
therefore relative to the run's own recent gradient norms (Seetharaman et al., 2020, arXiv:2007.14469).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class StepDecision:
    """What to do with a step."""

    scale: float
    """Factor for the gradient; 0 skips the step."""
    reason: str = ""
    """Why the step is skipped."""
    roll_back: bool = False
    """The last steps all failed: return to an earlier state."""


FEWEST = 32
"""Norms from which quantiles are taken."""


class Limits(NamedTuple):
    """Bounds of the next gradient's norm, in float32."""

    skip: float
    """Above it the step is skipped."""
    clip: float
    """Above it the gradient is scaled down to it."""


@dataclass
class Guard:
    """Decides on each step from its losses and gradient norm, and keeps the recent norms.

    A norm above `clip` × the running median is scaled down to it. A step with a norm above `skip` × the running 90 %
    quantile is skipped, but never more than `patience` in a row: all norms enter the window, so a run whose gradients have
    grown for good goes on. The run rolls back after `patience` non-finite steps in a row and, at most `rescues` times,
    after `patience` steps skipped for their norm while the loss exceeds its initial maximum: the weights have diverged.
    """

    clip: float = 2.0
    skip: float = 10.0
    window: int = 256
    patience: int = 5
    rescues: int = 2
    norms: deque[float] = field(default_factory=deque[float])
    skipped: int = 0
    in_a_row: int = 0
    broken_in_a_row: int = 0
    at_start: float = -math.inf
    """The greatest loss before there were enough norms for quantiles."""

    def limits(self) -> Limits:
        """Those that the next step is judged by."""
        typical, high = self._quantiles()
        skip = self.skip * high if high > 0 and self.in_a_row < self.patience else math.inf
        clip = self.clip * typical if self.clip and typical else math.inf
        return Limits(*np.array([skip, clip], np.float32).tolist())

    def judge(self, names: Sequence[str], parts: Sequence[float], norm: float, loss: float = math.nan,
              limits: Limits | None = None) -> StepDecision:
        """`parts` are the batch means of the terms called `names`; `norm` is the gradient's; `loss` is a value
        expected to decrease, NaN if there is none (adversarial games); `limits` are those that the step was taken by, where
        other steps have been judged since."""
        if not math.isfinite(norm) or not all(map(math.isfinite, parts)):
            return self._broken(names, parts)
        self.broken_in_a_row = 0
        most, clip = limits or self.limits()
        if len(self.norms) < FEWEST and loss > self.at_start:
            self.at_start = loss
        self.norms.append(norm)
        if len(self.norms) > self.window:
            self.norms.popleft()
        if norm > most:
            self.skipped += 1
            self.in_a_row += 1
            lost = self.in_a_row == self.patience and loss > self.at_start and self.rescues > 0
            if lost:
                self.rescues, self.in_a_row = self.rescues - 1, 0
            high = most / self.skip
            reason = f"gradient norm {norm:.3g} is {norm / high:.0f} times the usual high of {high:.3g}"
            return StepDecision(0.0, reason + ", the loss above any at the start" * lost, roll_back=lost)
        self.in_a_row = 0
        return StepDecision(min(1.0, clip / norm) if norm > 0 else 1.0)

    def _broken(self, names: Sequence[str], parts: Sequence[float]) -> StepDecision:
        self.skipped += 1
        self.broken_in_a_row += 1
        first = next((n for n, p in zip(names, parts, strict=True) if not math.isfinite(p)), None)
        reason = f"the term {first} is not finite" if first else "the gradient is not finite, though every term is"
        back = self.broken_in_a_row >= self.patience
        if back:
            self.broken_in_a_row = 0
        return StepDecision(0.0, reason, roll_back=back)

    def _quantiles(self) -> tuple[float, float]:
        """Median and 90 % quantile of the window; infinite until it holds enough norms."""
        if len(self.norms) < FEWEST:
            return math.inf, math.inf
        ordered = sorted(self.norms)
        return statistics.median(ordered), ordered[int(0.9 * len(ordered))]

    def to_dict(self) -> dict[str, object]:
        return {"norms": list(self.norms), "skipped": self.skipped, "in_a_row": self.in_a_row,
                "broken_in_a_row": self.broken_in_a_row, "rescues": self.rescues, "at_start": self.at_start}

    def load(self, saved: dict[str, object]) -> None:
        self.norms = deque(saved["norms"])  # type: ignore[arg-type]
        self.skipped = int(saved["skipped"])  # type: ignore[call-overload]
        self.in_a_row = int(saved["in_a_row"])  # type: ignore[call-overload]
        self.broken_in_a_row = int(saved["broken_in_a_row"])  # type: ignore[call-overload]
        self.rescues = int(saved["rescues"])  # type: ignore[call-overload]
        self.at_start = float(saved["at_start"])  # type: ignore[arg-type]
