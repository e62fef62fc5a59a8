"""Images: from a folder, an archive or arrays to uint8 of one shape, split and fingerprinted."""

from .images import ImageSet, from_arrays, open_images

__all__ = ["ImageSet", "from_arrays", "open_images"]
