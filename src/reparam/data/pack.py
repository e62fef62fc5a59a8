"""Packing images into shards of Parquet that training streams, in an order of chance; a killed packing goes on."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import DataError, UsageError
from ..files.tables import need_parquet
from ..files.writing import replacing, write_json
from .archives import Members, Skipped, members
from .decode import BYTES_PER_PIXEL, File, Named, read_image
from .imageset import ImageSet
from .open import is_files, open_images
from .options import DataOptions
from .parallel import in_parallel, workers_for
from .pixels import Pixels, UnreadableImage, fit
from .plan import Settings, Skips, header_of
from .workers import Workers

SHARD_BYTES, MOST_ROWS, FEWEST_ROWS = 128 << 20, 8192, 64
"""Bytes of a shard, about, and images in it."""
GROUPS = 32
"""Groups of rows in a shard, which are read at once."""
NOTE = "pack.json"
_PARTS = ("train", "validation", "test")
_LOOKED_AT = 64
_SEED = 0

Progress = Callable[[int, int], None]


class Packed(NamedTuple):
    """What was packed."""

    folder: Path
    shards: int
    images: int
    skipped: tuple[Skipped, ...]


class _Source(NamedTuple):
    """Images to pack, before they are read."""

    names: list[str]
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    parts: npt.NDArray[np.int64]
    """Of each image, its number in `_PARTS`."""
    files: Callable[[Sequence[int]], Iterator[tuple[str, Any]]]
    """Those of some numbers, in any order: files, or pixels."""
    in_sequence: bool
    """Whether they are read from front to back alone."""


def pack(source: str | Path, out: str | Path, *, options: DataOptions | None = None, progress: Progress | None = None
         ) -> Packed:
    """Writes the images of a source as shards of Parquet into the folder `out`, in an order of chance.

    Files are taken as they are, or with `options.image_size` decoded, resized, and stored as PNG; arrays become PNG. The
    columns are `image`, struct{bytes, path}, and `label`, as the library `datasets` reads them too. Run again after a kill,
    it goes on with the shards that are missing.

    Raises:
        DataError: no images there.
        UsageError: `out` holds something else already, or the package pyarrow is missing.
        ReparamError: the disk is full.
    """
    need_parquet("train on the folder itself")
    options = options or DataOptions()
    folder, name, path = Path(out), str(source), Path(source).expanduser()
    settings = Settings(options.image_size, options.background, options.value_range, options.max_pixels)
    settings.check()
    if not is_files(path, name):
        images = open_images(source, **vars(options))
        return _write(_of_arrays(images), folder, settings, Skips(options.on_bad), progress)
    with members(path, BYTES_PER_PIXEL * options.max_pixels) as found:
        if not found.entries:
            raise DataError(f"no images in {name}")
        return _write(_of_files(found), folder, settings, Skips(options.on_bad, found.skipped), progress)


def _of_files(found: Members[Any]) -> _Source:
    names = found.in_order(found.names)
    said = found.said(names)
    return _Source(names, said.labels, said.classes, said.validation + 2 * said.test,
                   lambda rows: found.files([names[i] for i in rows]), found.in_sequence)


def _of_arrays(images: ImageSet) -> _Source:
    return _Source(list(images.names), images.labels, images.classes, images.validation + 2 * images.test,
                   lambda rows: ((images.names[i], images.images[i]) for i in rows), False)


def _write(source: _Source, folder: Path, settings: Settings, skips: Skips, progress: Progress | None) -> Packed:
    shards = _divided(source, _rows(source, settings))
    _begin(folder, source, settings)
    total, done = len(source.names), 0
    with workers_for(total) as workers:
        for name, rows in shards:
            if not (folder / name).exists():
                _write_shard(folder / name, source, rows, settings, skips, workers)
            done += len(rows)
            if progress:
                progress(done, total)
    return Packed(folder, len(shards), sum(_images_in(folder / name) for name, _ in shards), tuple(skips))


def _images_in(shard: Path) -> int:
    return importlib.import_module("pyarrow.parquet").read_metadata(shard).num_rows


def _rows(source: _Source, settings: Settings) -> int:
    """Images in a shard, by the size of some of them."""
    n = len(source.names)
    some = sorted({i * n // _LOOKED_AT for i in range(_LOOKED_AT)})
    sizes = [len(result) for _, result in map(partial(_named, settings), source.files(some)) if isinstance(result, bytes)]
    return min(max(int(SHARD_BYTES / max(np.mean(sizes or [1]), 1)), FEWEST_ROWS), MOST_ROWS)


def _named(settings: Settings, item: tuple[str, Any]) -> tuple[str, bytes | UnreadableImage]:
    return item[0], encoded(item[1], settings)


def _divided(source: _Source, most: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """The file of each shard and the images in it."""
    rng, shards = np.random.default_rng(_SEED), list[tuple[str, npt.NDArray[np.int64]]]()
    for number, part in enumerate(_PARTS):
        rows = np.flatnonzero(source.parts == number)
        if not source.in_sequence:
            rows = rng.permutation(rows)
        count = -(-len(rows) // most)
        shards += [(f"{part}-{i:05d}-of-{count:05d}.parquet", rng.permutation(each))
                   for i, each in enumerate(np.array_split(rows, max(count, 1))) if len(each)]
    return shards


def _begin(folder: Path, source: _Source, settings: Settings) -> None:
    """Notes what is packed, or checks that it is what the folder holds a part of.

    Raises:
        UsageError: it holds something else.
    """
    whole = hashlib.blake2b(repr((settings, source.classes)).encode(), digest_size=16)
    for name in source.names:
        whole.update(f"{name!r}\n".encode())
    whole.update(source.parts.tobytes() + (source.labels.tobytes() if source.labels is not None else b""))
    digest = whole.hexdigest()
    if (folder / NOTE).is_file():
        if json.loads((folder / NOTE).read_text(encoding="utf-8")).get("of") == digest:
            return
        raise UsageError(f"{folder} holds shards of other images or options: name another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already: name a new folder")
    write_json(folder / NOTE, {"of": digest, "images": len(source.names)})


def _write_shard(path: Path, source: _Source, rows: npt.NDArray[np.int64], settings: Settings, skips: Skips,
                 workers: Workers | None) -> None:
    found: dict[str, bytes] = {}
    for name, result in in_parallel(partial(encoded, settings=settings), source.files(rows.tolist()), workers):
        if isinstance(result, UnreadableImage):
            skips.skip(name, result.reason)
        else:
            found[name] = result
    kept = [i for i in rows.tolist() if source.names[i] in found]
    arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {"image": arrow.array([{"bytes": found[source.names[i]], "path": source.names[i]} for i in kept], image)}
    if source.labels is not None:
        columns["label"] = arrow.array(source.labels[kept], arrow.int64())
    noted = {"huggingface": json.dumps({"info": {"features": _features(source)}})}
    table = arrow.table(columns).replace_schema_metadata(noted)
    with replacing(path) as temporary:
        parquet.write_table(table, temporary, row_group_size=max(1, -(-len(kept) // GROUPS)), compression="none",
                            use_dictionary=False, write_statistics=False)


def _features(source: _Source) -> dict[str, Any]:
    """The types of the columns as the library `datasets` notes them."""
    label: dict[str, Any] = {"names": list(source.classes), "_type": "ClassLabel"}
    return {"image": {"_type": "Image"}} | ({"label": label} if source.labels is not None else {})


def encoded(item: File | Pixels | UnreadableImage, settings: Settings) -> bytes | UnreadableImage:
    """The bytes of one image as a shard holds them."""
    if isinstance(item, UnreadableImage):
        return item
    if isinstance(item, np.ndarray):
        return _png(item)
    header = header_of(item, settings.max_pixels)
    if isinstance(header, UnreadableImage):
        return header
    try:
        if settings.image_size is None:
            return item.data if isinstance(item, Named) else Path(item).read_bytes()
        size = (settings.image_size, settings.image_size)
        pixels = read_image(item, background=settings.background, value_range=settings.value_range,
                            max_pixels=settings.max_pixels, at_least=3 * size[0])
        return _png(fit(pixels, size, alpha=settings.background == "keep"))
    except UnreadableImage as e:
        return e
    except OSError as e:
        return UnreadableImage((e.strerror or "unreadable").lower())


def _png(pixels: Pixels) -> bytes:
    """Pixels (H, W, C) as PNG where they are grey or RGB, or else as NPY."""
    stream = io.BytesIO()
    if pixels.shape[2] not in (1, 3):
        np.save(stream, pixels)
    else:  # level 1: a tenth larger than the usual 6, three times as quick to write, and read as quickly
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
