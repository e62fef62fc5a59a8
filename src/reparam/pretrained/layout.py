"""How a caller's array holds images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.pixels import Range, as_array, pixels_of
from ..errors import DataError, ReparamError
from ..text import counted


@dataclass(frozen=True)
class Layout:
    """How a caller's array holds its images, so that the answer can hold them in the same way."""

    kind: str  # "flat" (n, C·H·W), "grey" (n, H, W), "last" (n, H, W, C), "first" (n, C, H, W)
    single: bool
    dtype: np.dtype[Any]
    range: Range
    """Black and white, of whole numbers; floats are in [0, 1]."""

    @staticmethod
    def read(images: npt.ArrayLike, image_shape: tuple[int, ...], value_range: Range | None = None) -> tuple[Layout, Tensor]:
        """Recognises the layout of `images` and returns them as float (n, C, H, W) in [0, 1].

        uint8 are levels and floats lie in [0, 1]; other whole numbers have the range of their type, or `value_range`.

        Raises:
            DataError: a shape, type or range that does not fit the model; the message says what fits.
        """
        array = as_array(images)
        c, h, w = image_shape
        shapes = {"grey": (h, w) if c == 1 else None, "last": (h, w, c), "first": (c, h, w), "flat": (c * h * w,)}
        for kind, shape in shapes.items():
            if shape is not None and array.shape in (shape, (*array.shape[:1], *shape)):
                pixels, bounds = _pixels(array, value_range)
                layout = Layout(kind, array.shape == shape, array.dtype, bounds)
                return layout, layout._to_model(pixels, image_shape)
        accepted = " or ".join(f"(n, {', '.join(map(str, s))})" for s in shapes.values() if s)
        raise DataError(f"images of shape {array.shape} do not fit this model; it takes {accepted}")

    def _to_model(self, pixels: np.ndarray, image_shape: tuple[int, ...]) -> Tensor:
        c, h, w = image_shape
        x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
        x = x / 255 if pixels.dtype == np.uint8 else x
        x = x[None] if self.single else x
        return x.permute(0, 3, 1, 2) if self.kind == "last" else x.reshape(-1, c, h, w)

    def write(self, x: Tensor) -> np.ndarray:
        """(n, C, H, W) in this layout: whole numbers in the type and range that they came in, or float32 in [0, 1].

        Raises:
            ReparamError: pixels are NaN, for which there is no whole number.
        """
        x = x.detach().float().cpu().clamp(0, 1)
        if self.kind == "last":
            x = x.permute(0, 2, 3, 1)
        elif self.kind == "flat":
            x = x.flatten(1)
        elif self.kind == "grey":
            x = x[:, 0]
        out = x.numpy()
        if self.dtype.kind in "ui":
            low, high = self.range
            if bad := int(np.isnan(out).any(tuple(range(1, out.ndim))).sum()):
                raise ReparamError(f"{bad} of {counted(len(out), 'image')} that the model made "
                                   f"{'is' if bad == 1 else 'are'} not finite: its numbers overflow. "
                                   "Draw with a lower temperature, or train it again with a lower learning rate")
            out = np.rint(low + (high - low) * out.astype(np.float64)).astype(self.dtype)
        return np.ascontiguousarray(out[0] if self.single else out)


def _pixels(values: npt.NDArray[Any], value_range: Range | None) -> tuple[npt.NDArray[Any], Range]:
    """uint8 levels or floats in [0, 1] of values in memory, and what is black and white in them."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DataError("the images contain NaN or infinity")
        if values.size and (values.min() < 0 or values.max() > 1):
            raise DataError(f"float images lie in [0, 1]; got values from {values.min():g} to {values.max():g}. Divide by "
                            "their range, or pass uint8")
        return values, (0.0, 1.0)
    if values.dtype.name in ("uint8", "uint16", "bool") or (values.dtype.kind in "ui" and value_range):
        return pixels_of(values, value_range if values.dtype.kind in "ui" and values.dtype != np.uint8 else None)
    raise DataError(f"values of type {values.dtype} do not say what is black and white: pass uint8 levels, uint16, or "
                    "floats in [0, 1]")
