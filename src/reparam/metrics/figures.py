"""A measured figure: a number with its unit, sample size and interval, never one without the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

PROTOCOL = 1
"""Version of how figures are measured; it changes whenever one of them would."""


@dataclass(frozen=True)
class Figure:
    """One result of an evaluation."""

    name: str
    value: float
    unit: str
    n: int
    """Images that it was measured on."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval over images."""
    note: str = ""
    detail: tuple[float, ...] | None = None
    """Values behind the figure, such as the KL of each latent."""

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if v not in (None, "")}

    def __str__(self) -> str:
        spread = f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""
        return f"{self.name} {self.value:.4g}{spread} {self.unit} (n = {self.n:,})"


def mean_figure(name: str, values: Tensor | np.ndarray, unit: str, note: str = "") -> Figure:
    """The mean over images with its interval, ±1.96 standard errors."""
    v = np.asarray(values, dtype=np.float64)
    mean = float(v.mean())
    half = 1.96 * float(v.std(ddof=1)) / len(v) ** 0.5 if len(v) > 1 else 0.0
    return Figure(name, mean, unit, len(v), (mean - half, mean + half), note)
