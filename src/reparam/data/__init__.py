"""Images: from a folder, an archive or arrays to uint8 of one shape, split and fingerprinted."""

from .arrays import from_arrays
from .images import open_images, read_like
from .imageset import ImageSet
from .samples import pixels_of

__all__ = ["ImageSet", "from_arrays", "open_images", "pixels_of", "read_like"]
