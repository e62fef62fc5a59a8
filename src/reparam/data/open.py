"""From what a user names (a folder, an archive, arrays) to images of one shape."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DataError, UsageError, nearest
from .addresses import Address, files_at, is_remote
from .archives import check_regular, is_archive, members
from .arrays import open_arrays, open_digits, open_shapes
from .build import Progress, open_files
from .decode import BYTES_PER_PIXEL, MAX_PIXELS, Named
from .formats import is_read
from .imageset import ImageSet, Shape, assemble, enough, in_colour
from .labels import Labels
from .parallel import in_parallel
from .pixels import LARGEST, Pixels, Range, UnreadableImage
from .plan import Decoded, Joining, Settings, Skips
from .sharded import KINDS, open_sharded
from .tars import is_webdataset

BUNDLED = {"digits": open_digits, "shapes": open_shapes}
ACCEPTED = ("Accepted are a folder of images, a .zip or .tar of one, an .npy, an .npz, shards (.parquet, or .tar of "
            "WebDataset), also at an address such as s3://bucket/folder or hf:owner/name, and the bundled names 'digits' "
            "and 'shapes'.")


def open_images(source: str | Path, *, image_size: int | None = None, background: str = "white",
                value_range: Range | None = None, on_bad: Literal["skip", "error"] = "skip",
                max_pixels: int = MAX_PIXELS, stream: bool | None = None, largest: int = LARGEST, like: Shape | None = None,
                progress: Progress | None = None) -> ImageSet:
    """Opens what a user calls data: a folder of images, a zip or tar, .npy, .npz, or a bundled name.

    Files are decoded once, into a memory map in the cache; a second call decodes nothing.

    Args:
        image_size: side of the square that images are resized and cropped to, 8 to 512 pixels.
        background: what transparency is drawn on, or "keep" for an alpha channel.
        value_range: the samples that become 0 and 255, in place of the range of their type.
        on_bad: leave out files that cannot be read, or stop at the first.
        max_pixels: height times width of one image at most.
        stream: whether images in shards are decoded while they are trained on, so that a part of them alone is at hand; by
            default when they would take more than 4 GiB once decoded.
        largest: side above which images are shrunk to it where no `image_size` is given.
        like: (C, H, W) of a model's images, which these join; see `read_like`. One is enough then.
        progress: called with how many images are decoded, and how many there are.

    Raises:
        DataError: no such source, fewer than 16 readable images, values outside their range.
        UsageError: an option out of its range.
        ReparamError: the cache cannot be written.
    """
    settings = Settings(image_size, _drawn_on(background, like), value_range, max_pixels, like, largest)
    settings.check()
    if on_bad not in ("skip", "error"):
        raise UsageError(f"--on-bad must be skip or error, got {on_bad!r}")
    path, name = Path(source).expanduser(), str(source)
    if addresses := _shards_in(path, name):
        return open_sharded(addresses, name, settings, on_bad, stream, progress)
    if name in BUNDLED and not path.exists():
        return BUNDLED[name](image_size, value_range, like)
    if not path.exists():
        raise DataError(_no_such(path, name))
    check_regular(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return open_arrays(path, name, image_size, value_range, like, largest)
    with members(path, BYTES_PER_PIXEL * max_pixels) as found:
        return open_files(found, name, settings, on_bad, progress)


def read_like(sources: Sequence[str | Path], shape: Shape, *, background: str = "white",
              value_range: Range | None = None, on_bad: Literal["skip", "error"] = "skip",
              max_pixels: int = MAX_PIXELS, progress: Progress | None = None) -> ImageSet:
    """One source as for `open_images`, or image files, as a model's training images were made.

    Any number of images will do. A grey model reads colour as its brightness, a colour model reads
    grey as RGB, and other sizes are resized and cropped. Arrays of channels other than grey and RGB
    must have as many as the model. The images of a list of files are in its order, under the names
    in it, and have no labels. An .npy holds one image when its shape can be that of one.

    Args:
        shape: (C, H, W) of the model's images.
        background: what transparency is drawn on. With "keep" a model of 2 or 4 channels reads it as
            its last; for one of 1 or 3, which was made of arrays without it, it is drawn on white.
        value_range: the samples that become 0 and 255, in place of the range of their type.
        on_bad: leave out files that cannot be read, or stop at the first; `skipped` lists them.

    Raises:
        DataError: a file is missing, or nothing can be read; the message says why.
        UsageError: no such background, or an empty value range.
    """
    if len(sources) == 1 and _is_set(str(sources[0]), shape[0]):
        return open_images(sources[0], background=background, value_range=value_range, on_bad=on_bad,
                           max_pixels=max_pixels, like=shape, progress=progress)
    settings = Settings(None, _drawn_on(background, shape), value_range, max_pixels, shape)
    settings.check()
    files = [(str(path), _present(path)) for path in sources]
    source = files[0][0] if len(files) == 1 else f"{len(files)} files"
    skips, kept = Skips(on_bad), list[tuple[str, Decoded]]()
    for done, (name, result) in enumerate(in_parallel(Joining(shape, settings).decode, files), 1):
        if isinstance(result, UnreadableImage):
            skips.skip(name, result.reason)
        else:
            kept.append((name, result))
        if progress:
            progress(done, len(files))
    if len(files) == 1 and skips:
        raise UnreadableImage(skips[0].reason, source)
    enough(len(kept), skips, source, 1)
    names, decoded = zip(*kept, strict=True)
    none, digests = np.zeros(len(names), np.bool_), np.array([each.digest for each in decoded], np.uint64)
    return assemble(np.stack([each.image for each in decoded]), digests, Labels(), none, none, tuple(skips),
                    in_colour(sum(each.coloured for each in decoded)), source, names, joining=True)


def read_photo(data: bytes, shape: Shape, *, background: str = "white", value_range: Range | None = None,
               max_pixels: int = MAX_PIXELS) -> Pixels:
    """The bytes of one image file as an image (H, W, C), uint8, of a model's shape (C, H, W), as by `read_like`.

    Raises:
        UnreadableImage: it is no image file, or one that does not fit.
    """
    settings = Settings(None, _drawn_on(background, shape), value_range, max_pixels, shape)
    result = Joining(shape, settings).decode(Named("the file", data))
    if isinstance(result, UnreadableImage):
        raise UnreadableImage(result.reason, "the file")
    return np.array(result.image)  # of its own, which Pillow's need not be


def _shards_in(path: Path, name: str) -> list[Address]:
    """The shards that a source names: of an address or of wildcards always, of a path when it is one or holds some.

    Raises:
        DataError: there are none at an address.
    """
    remote = is_remote(name)
    wild = not remote and not path.exists() and any(sign in name for sign in "*?[")
    if not (remote or wild or _is_shard(path) or (path.is_dir() and _holds_shards(path))):
        return []
    found = files_at(name if remote else str(path.absolute()), [*KINDS])
    if not found and (remote or wild):
        raise DataError(f"no {' or '.join(KINDS)} files at {name!r}. {ACCEPTED}")
    return found


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".parquet" or (path.suffix.lower() == ".tar" and path.is_file() and is_webdataset(path))


def is_files(path: Path, name: str) -> bool:
    """Whether a source is a folder or an archive of image files."""
    arrays = path.suffix.lower() in (".npy", ".npz") or (name in BUNDLED and not path.exists())
    return path.exists() and not arrays and not _shards_in(path, name)


def _holds_shards(folder: Path) -> bool:
    """Whether a folder holds shards, at most two folders deep, and no images beside them, of which they may tell."""
    found = False
    for path in (each for deep in ("*", "*/*", "*/*/*") for each in folder.glob(deep)):
        if is_read(path.suffix) and path.is_file():
            return False
        found = found or path.suffix.lower() in KINDS
    return found


def _drawn_on(background: str, like: Shape | None) -> str:
    """The background of images that join a model's: arrays without transparency made one of 1 or 3 channels."""
    return "white" if background == "keep" and like is not None and like[0] in (1, 3) else background


def _is_set(source: str, channels: int) -> bool:
    """Whether a source is opened as a set of images, not read as one."""
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix in KINDS:
        return True
    if suffix == ".npy" and path.is_file():
        with contextlib.suppress(Exception):  # NumPy raises many kinds on a broken file, and reading it will tell
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            return len(shape) > 3 or (len(shape) == 3 and channels in (1, 3) and shape[2] not in (1, 3, 4))
    if is_read(suffix):
        return path.is_dir()
    return suffix == ".npz" or not path.is_file() or is_archive(path)


def _no_such(path: Path, name: str) -> str:
    return f"no such folder or file: {name!r}{nearest(path.name, [*BUNDLED, *_beside(path)])}. {ACCEPTED}"


def _beside(path: Path) -> list[str]:
    """The names in the folder where `path` would lie."""
    with contextlib.suppress(OSError):
        return [each.name for each in path.parent.iterdir()]
    return []


def _present(path: str | Path) -> Path | UnreadableImage:
    file = Path(path).expanduser()
    if not file.exists():
        raise DataError(f"no such file: {str(path)!r}{nearest(file.name, _beside(file))}")
    if file.is_dir():
        raise DataError(f"{str(path)!r} is a folder: name it alone, or image files")
    return file if file.is_file() else UnreadableImage("not a regular file")  # a pipe would be waited on for ever


