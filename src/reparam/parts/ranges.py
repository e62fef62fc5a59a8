"""Numbers from outside, refused in one style unless they are finite and in their range."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True)
class Within:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    whole: bool = False
    above: bool = False
    """Without `low` itself."""
    optional: bool = False
    """None stands for a choice that is made elsewhere."""

    def check(self, name: str, value: Any) -> None:
        """Refuses a `value` out of range, under the name by which a user knows it.

        Raises:
            UsageError: NaN, infinity, another type, or beyond the ends.
        """
        kind: Any = numbers.Integral if self.whole else numbers.Real
        number: bool = isinstance(value, kind) and value is not True and value is not False
        inside = number and self.low <= value <= self.high and not (self.above and value == self.low)
        if not inside and not (self.optional and value is None):
            raise UsageError(f"{name} must be {self}; got {value if number else repr(value)}")

    def __str__(self) -> str:
        ends = f"above {self.low:.12g} and up to {self.high:.12g}" if self.above else \
            f"from {self.low:.12g} to {self.high:.12g}"
        return f"a {'whole ' if self.whole else ''}number {ends}"


SEED = Within(0, 2**32 - 1, whole=True, optional=True)
"""Every generator of random numbers takes these."""
IMAGES = Within(0, 1_000_000, whole=True)
SOME_IMAGES = Within(1, 1_000_000, whole=True)
TEMPERATURE = Within(0, 10)
GUIDANCE = Within(0, 100)
SOLVER_STEPS = Within(1, 10_000, whole=True, optional=True)
"""Of a prior that draws in steps."""
PATH_STEPS = Within(2, 10_000, whole=True)
"""Images of an interpolation, both ends included."""
ROWS = Within(1, 10_000, whole=True)
"""Latents that a traversal shows."""
COLUMNS = Within(1, 1_000, whole=True)
"""Images of each latent that a traversal shows."""
WIDTH = Within(0, 100, above=True)
"""Standard deviations to either side of the mean."""
REFINEMENT = Within(0, 1, above=True)
"""Temperature of a refiner."""
DRAWS = Within(1, 100_000, whole=True)
"""Latents for each image in a bound of log p(x)."""
