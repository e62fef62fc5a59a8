"""Shards of Parquet: a column of encoded images, as bytes or as struct{bytes, path}, and one of labels."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, UsageError
from .addresses import Address, retried
from .decode import Named
from .pixels import UnreadableImage
from .shards import LABELS, Member, Shard, Value

_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
_SHORT = 64
"""Bytes that a value of a column may take on average; longer ones are captions or addresses."""
_END, _MAGIC = 8, b"PAR1"


class ParquetShard(Shard):
    """One file of Parquet, of whose contents only the footer is held."""

    def __init__(self, address: Address) -> None:
        parquet = _pyarrow()
        self.address, self.name = address, address.name
        footer, self._metadata = retried(lambda: _footer(parquet, address))
        schema = self._metadata.schema.to_arrow_schema()
        self.digest = hashlib.blake2b(footer, digest_size=16).digest()
        self._image = _image_column(schema, address.name)
        self._label = _label_column(schema)
        self.classes = _class_names(schema, self._label)
        self._factors = _factors(schema, self._metadata, {self._image, self._label})
        self.sizes = tuple(self._metadata.row_group(i).num_rows for i in range(self._metadata.num_row_groups))
        self.weights = tuple(self._metadata.row_group(i).total_byte_size for i in range(self._metadata.num_row_groups))

    @property
    def labelled(self) -> bool:
        return self._label is not None

    def read(self, group: int) -> list[Member]:
        table = self._table(group, [self._image, *([self._label] if self._label is not None else [])])
        images = table.column(self._image).to_pylist()
        labels = table.column(self._label).to_pylist() if self._label is not None else [None] * len(images)
        return [self._member(each, label) for each, label in zip(images, labels, strict=True)]

    def labels(self) -> list[Value]:
        if self._label is None:
            return [None] * sum(self.sizes)
        return self._columns([self._label])[self._label]

    def factors(self) -> dict[str, list[Any]]:
        return self._columns(self._factors) if self._factors else {}

    def _columns(self, names: list[str]) -> dict[str, list[Any]]:
        parquet = _pyarrow()

        def read() -> Any:
            with self.address.open() as file:
                return parquet.ParquetFile(file, metadata=self._metadata).read(columns=names)

        return retried(read).to_pydict()

    def _member(self, value: Any, label: Value) -> Member:
        data, path = (value.get("bytes"), value.get("path") or "") if isinstance(value, dict) else (value, "")
        if not data:
            where = f": it lies in {path}, outside of the shard" if path else ""
            return Member(UnreadableImage(f"it has no bytes{where}"), path, label)
        return Member(Named(path, data), path, label)

    def _table(self, group: int, columns: list[str]) -> Any:
        parquet = _pyarrow()

        def read() -> Any:
            with self.address.open() as file:
                return parquet.ParquetFile(file, metadata=self._metadata).read_row_group(group, columns=columns)

        return retried(read)


def _pyarrow() -> Any:
    """The package's part that reads Parquet.

    Raises:
        UsageError: it is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError('images in .parquet need the package pyarrow: pip install "reparam[parquet]"')
    return importlib.import_module("pyarrow.parquet")


def _footer(parquet: Any, address: Address) -> tuple[bytes, Any]:
    """The footer as it stands and as it reads."""
    size = address.size()
    with address.open() as file:
        file.seek(max(size - _END, 0))
        end = file.read()
        if size < 2 * _END or end[4:] != _MAGIC:
            raise DataError("it is not Parquet, or is truncated")
        file.seek(max(size - _END - int.from_bytes(end[:4], "little"), 0))
        footer = file.read()
        file.seek(0)
        return footer, parquet.ParquetFile(file).metadata


def _image_column(schema: Any, name: str) -> str:
    """The column of encoded images.

    Raises:
        DataError: there is none, or several.
    """
    arrow = importlib.import_module("pyarrow")

    def holds_bytes(kind: Any) -> bool:
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    found = [field.name for field in schema if holds_bytes(field.type) or (
        arrow.types.is_struct(field.type) and any(f.name == "bytes" and holds_bytes(f.type) for f in field.type))]
    chosen = [each for wanted in _IMAGES for each in found if each.lower() == wanted] or found
    if len(chosen) != 1 and not (chosen and chosen[0].lower() in _IMAGES):
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise DataError(f"{name} has {'no column' if not found else 'several columns'} of encoded images, which are bytes "
                        f"or struct{{bytes, path}}; its columns are {columns}. "
                        + ("Name the one of images 'image'" if found else "Pack images with: reparam pack DATA OUT"))
    return chosen[0]


def _label_column(schema: Any) -> str | None:
    types = importlib.import_module("pyarrow").types
    scalar = {field.name.lower(): field.name for field in schema if types.is_integer(field.type)
              or types.is_string(field.type) or types.is_large_string(field.type) or types.is_dictionary(field.type)}
    return next((scalar[name] for name in LABELS if name in scalar), None)


def _factors(schema: Any, metadata: Any, others: set[str | None]) -> list[str]:
    """The other columns of numbers, truths or short words."""
    types = importlib.import_module("pyarrow").types
    spent: Counter[str] = Counter()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            spent[column.path_in_schema] += column.total_uncompressed_size

    def tells(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_dictionary(kind)
                    or types.is_string(kind) or types.is_large_string(kind))

    return [field.name for field in schema if field.name not in others and tells(field.type)
            and spent[field.name] <= _SHORT * metadata.num_rows]


def _class_names(schema: Any, label: str | None) -> tuple[str, ...]:
    """Names of the classes, as the library `datasets` notes them beside the columns; none where they are not noted."""
    try:
        noted: Any = json.loads(schema.metadata[b"huggingface"])
        names: Sequence[Any] = noted["info"]["features"][label]["names"]
        return tuple(map(str, names))
    except (KeyError, TypeError, ValueError):
        return ()
