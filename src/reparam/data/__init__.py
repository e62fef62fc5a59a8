"""Images: from a folder, an archive or arrays to uint8 of one shape, split and fingerprinted."""

from __future__ import annotations

from .arrays import from_arrays
from .imageset import ImageSet
from .open import open_images, read_like
from .pixels import pixels_of

__all__ = ["ImageSet", "from_arrays", "open_images", "pixels_of", "read_like"]
