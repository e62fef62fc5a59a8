"""How images are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .pixels import LARGEST


@dataclass(frozen=True)
class DataOptions:
    """How images are read; see `data.open_images`."""

    image_size: int | None = None
    background: str = "white"
    value_range: tuple[float, float] | None = None
    on_bad: Literal["skip", "error"] = "skip"
    max_pixels: int = 50_000_000
    stream: bool | None = None
    largest: int = LARGEST
