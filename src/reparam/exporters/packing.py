"""Bytes and arrays as text that a page can carry: compressed, in base64."""

from __future__ import annotations

import base64
import gzip

import numpy as np
import numpy.typing as npt


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def packed_array(values: npt.ArrayLike, dtype: str = "<f4") -> str:
    return packed(np.ascontiguousarray(values, dtype).tobytes())
