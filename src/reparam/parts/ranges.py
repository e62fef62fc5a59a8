"""What an argument may be. A range stands in the annotation of a part's argument, and numbers of commands have one too:

    def mixture(space: Space, n: Annotated[int, at_least(1)] = 50)

The registry reads the annotations and refuses what lies outside, in one form of words; see `Role`.
"""

from __future__ import annotations

import math
import numbers
import types
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from ..errors import UsageError


def _is_number(value: Any, kind: Any = numbers.Real) -> bool:
    return isinstance(value, kind) and value is not True and value is not False


@dataclass(frozen=True)
class Interval:
    """Finite numbers from `low` to `high`.

    >>> str(Interval(0, 1, above=True)), Interval(0, 1, above=True).holds(0)
    ('above 0 and up to 1', False)
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """Without `low` itself."""
    below: bool = False
    """Without `high` itself."""
    advice: str = ""
    """What to write instead, for the message that refuses a value."""

    def holds(self, value: Any) -> bool:
        """Whether it is a number, finite, and in the interval."""
        return (_is_number(value) and -math.inf < value < math.inf
                and (self.low < value if self.above else self.low <= value)
                and (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        low, high = f"{self.low:.12g}", f"{self.high:.12g}"
        if math.isinf(self.high):
            return "finite" if math.isinf(self.low) else f"{'above' if self.above else 'at least'} {low}"
        if math.isinf(self.low):
            return f"{'below' if self.below else 'at most'} {high}"
        if self.above:
            return f"above {low} and {'below' if self.below else 'up to'} {high}"
        return f"from {low} to {'below ' if self.below else ''}{high}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]
    advice: str = ""

    def holds(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        *others, last = map(repr, self.values)
        return f"{', '.join(others)} or {last}" if others else last


def at_least(low: float, *, below: float | None = None, advice: str = "") -> Interval:
    """Numbers from `low` on, or up to but without `below`."""
    return Interval(low, math.inf if below is None else below, below=below is not None, advice=advice)


def above(low: float, *, up_to: float | None = None, advice: str = "") -> Interval:
    """Numbers greater than `low`, `up_to` included."""
    return Interval(low, math.inf if up_to is None else up_to, above=True, advice=advice)


def between(low: float, high: float, *, advice: str = "") -> Interval:
    """Numbers from `low` to `high`, both included."""
    return Interval(low, high, advice=advice)


def one_of(*values: Any, advice: str = "") -> Choice:
    """One of these values."""
    return Choice(values, advice)


def of_kind(value: Any, hint: Any) -> bool:
    """Whether a literal is of the type that an annotation asks for; a whole number is a float too.

    >>> of_kind(3, float), of_kind((1, 2.5), tuple[int, ...])
    (True, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return of_kind(value, inner[0])
    if origin is tuple:
        return isinstance(value, tuple) and all(of_kind(v, inner[0]) for v in value)
    if origin in (Union, types.UnionType):
        return any(of_kind(value, option) for option in inner)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def in_range(value: Any, hint: Any) -> bool:
    """Whether a value lies in the ranges that its annotation names; numbers within tuples have theirs.

    >>> in_range((3, 0), tuple[Annotated[int, at_least(1)], ...])
    False
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return in_range(value, inner[0]) and all(r.holds(value) for r in inner[1:] if isinstance(r, Interval | Choice))
    if origin in (Union, types.UnionType):
        return any(of_kind(value, option) and in_range(value, option) for option in inner)
    if origin is tuple and isinstance(value, tuple):
        items = list(value)  # pyright: ignore[reportUnknownArgumentType]
        return (inner[-1] is ... or len(items) == len(inner)) and all(in_range(v, inner[0]) for v in items)
    return True


def accepted(hint: Any) -> str:
    """What an annotation accepts, in words; empty where it names no range.

    >>> accepted(Annotated[float, above(0)] | Annotated[str, one_of("learned", "optimal")])
    "above 0, or 'learned' or 'optimal'"
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " and ".join([*filter(None, [accepted(inner[0])]), *map(str, _ranges(hint))])
    if origin in (Union, types.UnionType) and any(map(accepted, inner)):
        return ", or ".join("None" if option is types.NoneType else accepted(option) or _name(option) for option in inner)
    if origin is tuple and (each := accepted(inner[0])):
        return f"{'numbers' if inner[-1] is ... else f'{len(inner)} numbers'}, each {each}"
    return ""


def advice_of(hint: Any) -> str:
    """What the ranges of an annotation advise in place of a value outside them."""
    own = [r.advice for r in _ranges(hint) if r.advice]
    return own[0] if own else next(filter(None, (advice_of(option) for option in get_args(hint))), "")


def _ranges(hint: Any) -> list[Interval | Choice]:
    return [r for r in get_args(hint)[1:] if isinstance(r, Interval | Choice)] if get_origin(hint) is Annotated else []


def _name(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "a text"}.get(hint, str(hint))


@dataclass(frozen=True)
class Within(Interval):
    """An interval for a number that is no part's argument, such as the option of a command."""

    whole: bool = False
    optional: bool = False
    """Whether None is accepted, for a choice that is made elsewhere."""

    def check(self, name: str, value: Any) -> None:
        """Refuses a `value` out of range, under the name by which a user knows it.

        Raises:
            UsageError: NaN, infinity, another type, or beyond the ends.
        """
        number = _is_number(value, numbers.Integral if self.whole else numbers.Real)
        if not (number and self.holds(value)) and not (self.optional and value is None):
            raise UsageError(f"{name} must be {self}; got {value if number else repr(value)}")

    def __str__(self) -> str:
        return f"a {'whole ' if self.whole else ''}number {super().__str__()}"


MOST_SIDE = 512
"""Pixels of an image's longer side."""
IMAGE_SIZE = Within(8, MOST_SIDE, whole=True, optional=True)
"""Side of the square that images are resized to; None leaves that to their own sizes."""
SEED = Within(0, 2**32 - 1, whole=True, optional=True)
"""Of a generator of random numbers."""
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
VARIATION = Within(0, 1, optional=True)
"""How far draws go from an image."""
KEPT = Within(0, 1, above=True)
"""Share of draws that are kept."""
TIMES = Within(1, 100, whole=True)
"""How many times as many draws are made as are kept."""
DETAIL = Within(0, 1)
"""Share of what reconstruction loses of an image that an edit adds back."""
