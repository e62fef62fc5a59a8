"""How a model draws by default, which is chosen once it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..parts.ranges import Within
from .draw import Draw

Temperature = Annotated[float, Within(0, 10)]
Share = Annotated[float, Within(1e-6, 1)]
Distance = Annotated[float, Within(-1e12, 1e12)]


@dataclass(frozen=True)
class Tried:
    """A way of drawing, and how far its images were from held-out ones."""

    temperature: Temperature
    keep: Share
    """Of draws, by a resampler; 1 without one."""
    refine_temperature: Share | None
    fd: Distance
    """On the images that choose, without the bias of few."""
    error: Distance
    """Standard error of its difference to plain draws'."""


@dataclass(frozen=True)
class Sampling:
    """How a model draws by default, and what that was chosen by; `metrics.sampling` has the method."""

    temperature: Temperature = 1.0
    keep: Share = 1.0
    """Of plain draws, by a resampler; 1 leaves it out."""
    refine_temperature: Share | None = None
    """None for the refiner's own."""
    fd: Distance = 0.0
    """Fréchet distance to `n` held-out images, by which the choice was confirmed."""
    fd_plain: Distance = 0.0
    """The same of plain draws: temperature 1, every draw kept, the refiner's own temperature."""
    n: Annotated[int, Within(0, 10**9)] = 0
    features: str = ""
    """By which distances were taken."""
    table: tuple[Tried, ...] = ()

    @property
    def is_plain(self) -> bool:
        return (self.temperature, self.keep, self.refine_temperature) == (1.0, 1.0, None)

    @property
    def draw(self) -> Draw:
        """The options that draw so."""
        return Draw(self.temperature, resample=self.keep < 1, refine_temperature=self.refine_temperature)

    @property
    def reason(self) -> str:
        """What was chosen and why, in a sentence."""
        by = f"{self.features or 'features'} of {self.n:,} held-out images, by which the choice was confirmed"
        if self.is_plain:
            return f"temperature 1: no other way of drawing is closer beyond noise (FD {self.fd_plain:,.4g} by {by})"
        return f"{self.in_words}: FD {self.fd:,.4g} rather than {self.fd_plain:,.4g} by {by}"

    @property
    def in_words(self) -> str:
        """What is chosen."""
        chosen = [f"temperature {self.temperature:g}"]
        chosen += [f"{self.keep:.0%} of draws kept by the resampler"] if self.keep < 1 else []
        chosen += [] if self.refine_temperature is None else [f"refiner's temperature {self.refine_temperature:g}"]
        return ", ".join(chosen)
