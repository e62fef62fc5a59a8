"""Images: from a folder, an archive or arrays to uint8 of one shape, split and fingerprinted."""

from .arrays import ImageSet, from_arrays
from .images import open_images, read_like

__all__ = ["ImageSet", "from_arrays", "open_images", "read_like"]
