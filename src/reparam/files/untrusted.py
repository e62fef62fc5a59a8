"""Reading files that a stranger may have made: regular files up to a size, JSON of the types that were asked for, tensors
whose sizes are known before they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import stat
import types
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    BinaryIO,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from safetensors import SafetensorError, safe_open

from ..errors import ModelFileError

MOST_BYTES = 64 * 2**20
"""Of a file of text in a run's folder; those that training writes are a thousand times smaller."""
DEEPEST = 32
"""Lists within lists in such a file."""


@dataclasses.dataclass(frozen=True)
class Within:
    """Bounds of a number, both included; stands in an annotation, `Annotated[int, Within(0, 9)]`."""

    low: float
    high: float


Count = Annotated[int, Within(0, 2**53)]
Amount = Annotated[float, Within(0, 1e300)]
Share = Annotated[float, Within(0, 1)]


class Malformed(ValueError):
    """A file is not what it should be; the message says in what."""


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file to read, at once: a pipe, a device or a socket is refused, a link to a file is followed.

    Raises:
        OSError: it cannot be opened.
        Malformed: it is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file, larger than `most` bytes, or not text.
    """
    with open_regular(path) as f:
        size = os.fstat(f.fileno()).st_size
        if size > most:
            raise Malformed(f"it has more than {most // 2**20} MiB")
        return f.read(size).decode("utf-8")


def parse_json(text: str, *, infinite: bool = False) -> Any:
    """What a JSON text says; Python's NaN and Infinity are no JSON, and read only where `infinite` asks for them.

    Raises:
        ValueError: not JSON, or lists within lists beyond reason.
    """
    try:
        value = json.loads(text, parse_constant=None if infinite else _refuse)
    except RecursionError as e:
        raise Malformed("lists within lists beyond reason") from e
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [v for each in level if isinstance(each, list | dict)
                 for v in (each.values() if isinstance(each, dict) else each)]  # pyright: ignore
        if not level:
            return value
    raise Malformed("lists within lists beyond reason")


def _refuse(word: str) -> Any:
    raise Malformed(f"{word} is not a number of JSON")


def read_json(path: str | Path, hint: Any, *, advice: str = "") -> Any:
    """What a file of JSON says, as `conform` gives it.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it cannot be read, or says something else.
    """
    try:
        return conform(parse_json(read_text(path)), hint)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as e:
        raise ModelFileError(f"{path} cannot be read: {e}{advice and f'. {advice}'}") from e


def _in_utf8(path: str | Path, opened: BinaryIO) -> str:
    """A path to an opened file that safetensors takes, which wants UTF-8."""
    name = str(path)
    return name if name.isascii() or name.encode("utf-8", "replace").decode() == name else f"/dev/fd/{opened.fileno()}"


@contextlib.contextmanager
def open_tensors(path: str | Path, *, advice: str) -> Generator[Any]:
    """Opens a safetensors file; nothing of its tensors is read yet.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it cannot be read, there or in the block.
    """
    try:
        with open_regular(path) as opened, safe_open(_in_utf8(path, opened), "pt") as f:
            yield f
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, Malformed, MemoryError) as e:
        raise ModelFileError(f"{path} cannot be read ({e}){advice}") from e


def conform(value: Any, hint: Any, where: str = "") -> Any:
    """A value of JSON as the annotation `hint` asks for it: lists become tuples, objects dataclasses, where it says so.

    Knows bool, int, float, str, None, list, tuple, dict, Literal, unions, `Annotated` with `Within`, TypedDict (whose other
    keys are kept) and dataclasses. Numbers are finite unless `Within` says otherwise.

    Raises:
        Malformed: the value is something else; the message says where.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _either(value, inner, where)
    if origin is Annotated:
        return _within(conform(value, inner[0] if inner[0] is not float else _Number, where), inner[1], where)
    if origin in (Required, NotRequired):
        return conform(value, inner[0], where)
    if origin is Literal:
        return value if value in inner and type(value) in map(type, inner) else _wrong(value, hint, where)
    if origin in (list, tuple):
        return _sequence(value, origin, inner, where)
    if origin is dict:
        return {k: conform(v, inner[1], _at(where, k)) for k, v in _object(value, where).items()}
    if is_typeddict(hint):
        return _typed(value, hint, where)
    if dataclasses.is_dataclass(hint):
        return _record(value, hint, where)
    return _plain(value, hint, where)


class _Number:
    """Stands for a float that need not be finite."""


def _plain(value: Any, hint: Any, where: str) -> Any:
    if hint in (float, _Number) and isinstance(value, int | float) and not isinstance(value, bool):
        if (abs(value) > 1e300 and not (hint is _Number and isinstance(value, float))) or (hint is float and value != value):
            return _wrong(value, float, where)
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**63 else _wrong(value, hint, where)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    return None if hint in (None, types.NoneType) and value is None else _wrong(value, hint, where)


def _either(value: Any, options: Sequence[Any], where: str) -> Any:
    for option in options:
        with contextlib.suppress(Malformed):
            return conform(value, option, where)
    return _wrong(value, Union[tuple(options)], where)  # noqa: UP007


def _within(value: Any, bounds: Within, where: str) -> Any:
    if not bounds.low <= value <= bounds.high:
        raise Malformed(f"{where or 'it'} is {_shown(value)}, not from {bounds.low:g} to {bounds.high:g}")
    return value


def _sequence(value: Any, origin: type, inner: Sequence[Any], where: str) -> Any:
    if not isinstance(value, list | tuple):
        return _wrong(value, list, where)
    items: Sequence[Any] = value  # pyright: ignore
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(items) != len(inner):
            raise Malformed(f"{where or 'it'} has {len(items)} entries, not {len(inner)}")
        hints: Sequence[Any] = inner
    else:
        hints = [inner[0]] * len(items)
    return origin(conform(v, h, _at(where, i)) for i, (v, h) in enumerate(zip(items, hints, strict=True)))


def _object(value: Any, where: str) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _wrong(value, dict, where)


def _typed(value: Any, hint: Any, where: str) -> Any:
    found, hints = dict(_object(value, where)), get_type_hints(hint, include_extras=True)
    needed = {k for k, v in hints.items()
              if get_origin(v) is Required or (hint.__total__ and get_origin(v) is not NotRequired)}
    _check_keys(needed - found.keys(), where)
    return {k: conform(v, hints.get(k, Any), _at(where, k)) for k, v in found.items()}


def _record(value: Any, hint: Any, where: str) -> Any:
    found, hints = _object(value, where), get_type_hints(hint, include_extras=True)
    known = {f.name: f for f in dataclasses.fields(hint)}
    needed = {n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING}
    _check_keys(needed - found.keys(), where)
    if unknown := sorted(found.keys() - known.keys()):
        raise Malformed(f"{_at(where, unknown[0])} is not known")
    return hint(**{k: conform(v, hints[k], _at(where, k)) for k, v in found.items()})


def _check_keys(missing: set[str] | frozenset[str], where: str) -> None:
    if missing:
        raise Malformed(f"{_at(where, min(missing))} is missing")


def _at(where: str, key: str | int) -> str:
    return f"{where}[{key}]" if isinstance(key, int) else f"{where}.{_cut(key)}" if where else _cut(key)


def _wrong(value: Any, hint: Any, where: str) -> Any:
    name = _NAMES.get(hint) or str(hint).replace("typing.", "")
    raise Malformed(f"{where or 'it'} is {_shown(value)}, not {name}")


_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object",
                          list: "a list", None: "null", types.NoneType: "null"}


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number beyond measure"
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def not_finite(tensors: Mapping[str, Any]) -> str | None:
    """The name of the first tensor that holds NaN or infinity, if one does."""
    return next((k for k, v in tensors.items() if v.is_floating_point() and not math.isfinite(float(v.sum()))
                 and not bool(v.isfinite().all())), None)
