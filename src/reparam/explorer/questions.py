"""What the page asks, and what it is told. All that a question says is looked at before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..parts.ranges import Within

Array = npt.NDArray[Any]
MOST_IMAGES = 512
"""Asked for at a time."""
FINITE = Within(-1e6, 1e6)


@dataclass(frozen=True)
class Answer:
    """Fields, which JSON can hold, and arrays of uint8, int32 or float32."""

    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])


@dataclass(frozen=True)
class Question:
    """A question of the page, and the bytes of the file that came with it.

    What its methods return is of the kind and in the range that they name; else they raise UsageError.
    """

    said: Mapping[str, Any]
    file: bytes = b""

    def __contains__(self, name: str) -> bool:
        return self.said.get(name) is not None

    def whole(self, name: str, within: Within, default: int | None = None) -> int:
        return int(self.number(name, within, default))

    def number(self, name: str, within: Within, default: float | None = None) -> float:
        value = self.said.get(name)
        value = default if value is None else value
        within.check(name, value)
        if value is None:
            raise UsageError(f"{name!r} is missing: a number {within}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.said.get(name, default)
        if not isinstance(value, bool):
            raise UsageError(f"{name!r} is true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self.said.get(name, default)
        if not isinstance(value, str) or len(value) > 200:
            raise UsageError(f"{name!r} is a short text")
        return value

    def rows(self, n: int, name: str = "rows", *, most: int | None = None) -> npt.NDArray[np.int64]:
        """Rows of n images, at least one and at most as many as `most`."""
        value = self.said.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(row, int) for row in value):
            raise UsageError(f"{name!r} is a list of images by their numbers, at least one")
        if most is not None and len(value) > most:
            raise UsageError(f"{len(value):,} images are too many to ask for at once; {most:,} at most")
        if min(value) < 0 or max(value) >= n:
            raise UsageError(f"there is no image {min(value) if min(value) < 0 else max(value)}: the {n:,} images are "
                             "numbered from 0")
        return np.asarray(value, np.int64)

    def code(self, d: int) -> npt.NDArray[np.float32]:
        """One code, (1, d)."""
        return _as_codes([self.said.get("code")], d)

    def codes(self, d: int, *, most: int = MOST_IMAGES) -> npt.NDArray[np.float32]:
        """Codes (n, d), at least one and at most as many as `most`."""
        value = self.said.get("codes")
        if not isinstance(value, list) or not value or len(value) > most:
            raise UsageError(f"'codes' is a list of codes, from 1 to {most:,} of them")
        return _as_codes(value, d)


class Answers(Protocol):
    """What can be asked."""

    def steps(self, question: Question) -> Iterator[Answer | None]:
        """None after each step of the work, and the answer at last.

        Raises:
            ReparamError: what is asked for cannot be, in words for the one who asked.
        """
        ...

    def close(self) -> None:
        """Ends what is still computed in the background."""
        ...


def _as_codes(value: list[Any], d: int) -> npt.NDArray[np.float32]:
    if not all(isinstance(code, list) and len(code) == d for code in value):
        raise UsageError(f"a code of this model is a list of {d} numbers")
    try:
        codes = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"a code of this model is a list of {d} numbers") from e
    if codes.shape != (len(value), d):
        raise UsageError(f"a code of this model is a list of {d} numbers")
    if not (np.abs(codes) <= FINITE.high).all():
        raise UsageError(f"the numbers of a code are {FINITE}")
    return codes.astype(np.float32)
