"""Messages between page and server as bytes; `server` says what stands in them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UsageError
from .questions import Answer, Question

ALIGNED = 4
MOST_TEXT = 8_000_000
"""Bytes of a question without its file, which takes many times as much when it is read."""
DTYPES = ("uint8", "int32", "float32")


def read_question(message: str | bytes) -> Question:
    """What a message asks.

    Raises:
        UsageError: it is no question.
    """
    text, file = (message, b"") if isinstance(message, str) else _parts(message)
    if len(text) > MOST_TEXT:
        raise UsageError(f"a question has {MOST_TEXT // 1_000_000} MB at most, without its file")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError("a question is a JSON object") from e
    if not isinstance(said, dict):
        raise UsageError("a question is a JSON object")
    return Question(said, file)


def _parts(message: bytes) -> tuple[bytes, bytes]:
    if len(message) < 4:
        raise UsageError("a question with a file begins with the length of its JSON")
    (length,) = struct.unpack_from("<I", message)
    return message[4 : 4 + length], message[4 + length :]


def write_answer(asked: Any, answer: Answer) -> bytes:
    """The answer to the question of this id."""
    pieces = [np.ascontiguousarray(array) for array in answer.arrays.values()]
    told = [{"name": name, "dtype": piece.dtype.name, "shape": list(piece.shape)}
            for name, piece in zip(answer.arrays, pieces, strict=True)]
    wrong = next((each["name"] for each in told if each["dtype"] not in DTYPES), None)
    if wrong is not None:
        raise TypeError(f"the page reads no array such as {wrong}")
    body = b"".join(piece.tobytes() + bytes(-piece.nbytes % ALIGNED) for piece in pieces)
    return _headed({"id": asked, "arrays": told, **answer.fields}) + body


def write_error(asked: Any, text: str) -> bytes:
    """Why there is no answer to the question of this id."""
    return _headed({"id": asked, "error": text, "arrays": []})


def _headed(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-(4 + len(text)) % ALIGNED)
    return struct.pack("<I", len(text)) + text
