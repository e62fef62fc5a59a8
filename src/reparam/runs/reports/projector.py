"""A map's codes for TensorBoard's embedding projector, or the projector on a page of its own.

`vectors.tsv` has a code in every line and no heading; `metadata.tsv` the images' names and what is known of them, with a
heading only where it has two columns; `sprite.png` all images row by row; `projector_config.pbtxt` names them for
TensorBoard (EmbeddingInfo in its projector_config.proto), `projector_config.json` for the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...files.writing import write_json, write_text
from ...pretrained.pictures import save_png, sprite, thumbnails
from ...text import printable
from ..mapping import Mapped

LARGEST = 8_192
"""Pixels of a sprite that browsers show."""
SIDE = 64
NAME = "codes"


def write_projector(found: Mapped, folder: Path) -> None:
    """Writes the five files.

    Raises:
        ReparamError: one of them cannot be written.
    """
    columns = int(np.ceil(len(found.rows) ** 0.5))
    pictures = thumbnails(found.pixels, min(SIDE, LARGEST // columns))
    height, width = pictures.shape[1:3]
    write_text(folder / "vectors.tsv", _lines([f"{v:.9g}" for v in code] for code in found.codes.tolist()))
    write_text(folder / "metadata.tsv", _lines(_metadata(found)))
    save_png(sprite(pictures), folder / "sprite.png")
    write_text(folder / "projector_config.pbtxt", (
        f'embeddings {{\n  tensor_name: "{NAME}"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n'
        f'  sprite {{\n    image_path: "sprite.png"\n    single_image_dim: {width}\n    single_image_dim: {height}\n'
        "  }\n}\n"))
    write_json(folder / "projector_config.json", {"embeddings": [{
        "tensorName": NAME, "tensorShape": list(found.codes.shape), "tensorPath": "vectors.tsv",
        "metadataPath": "metadata.tsv", "sprite": {"imagePath": "sprite.png", "singleImageDim": [width, height]}}]})


def _metadata(found: Mapped) -> list[list[str]]:
    if found.known is None:
        return [[name] for name in found.names]
    return [["name", found.known.name], *map(list, zip(found.names, found.known.cells, strict=True))]


def _lines(rows: Iterable[Sequence[str]]) -> str:
    """Cells by tabs, which `printable` leaves none of."""
    return "".join("\t".join(map(printable, row)) + "\n" for row in rows)
