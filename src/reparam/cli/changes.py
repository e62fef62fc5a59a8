"""What --add says: directions that are kept with a model, and how far to go along each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError, nearest
from ..text import for_shell

if TYPE_CHECKING:
    from ..downstream.directions import Change
    from ..pretrained.image_model import ImageModel


def strength_in(text: str) -> tuple[str, float]:
    """Name and strength in smiling=1.5; a name alone is meant once."""
    name, sign, number = text.rpartition("=")
    try:
        return (name, finite(number)) if sign else (text, 1.0)
    except ValueError as e:
        raise UsageError(f"--add takes a direction and a number, such as smiling=1.5; got {text!r}") from e


def finite(text: str) -> float:
    """Raises ValueError for what is no number, NaN or infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def changes_of(run: str, model: ImageModel, wanted: Sequence[tuple[str, float]]) -> list[Change]:
    """The directions that are named, each with its strength.

    Raises:
        UsageError: one that is not kept with the model.
        ModelFileError: what is kept cannot be read, or is of other weights.
    """
    from ..downstream.directions import read_directions

    kept = read_directions(run, model)
    for name, _ in wanted:
        if name not in kept:
            known = f"Known: {', '.join(kept)}" if kept else f"None is kept yet: reparam direction {for_shell(run)} DATA"
            raise UsageError(f"unknown direction {name!r}{nearest(name, kept)}. {known}")
    return [(kept[name], strength) for name, strength in wanted]
