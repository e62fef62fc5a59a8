"""The command `export`: a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..progress import aligned, tell
from .app import USING, app, print_json
from .options import Json


@app.command(group=USING)
def export(run: str, /, *, format: Literal["onnx"] = "onnx", out: str | None = None, json: Json = False) -> None:
    """Write a model for programs without PyTorch, compared with PyTorch on the spot.

    ONNX files for encoder, decoder and prior take images, codes and noise, and give codes, images and codes; model.json says
    their shapes and which latents matter. Without randomness inside, they give the same numbers everywhere.

    Parameters
    ----------
    run
        A run's folder, or that of a model alone.
    format
        onnx.
    out
        Folder; by default onnx/ in the run's.
    """
    from ..exporters.onnx import check_packages, export_onnx
    from ..pretrained.image_model import load

    check_packages()
    folder = Path(out) if out is not None else Path(run) / format
    written = export_onnx(load(run, device="cpu"), folder)
    if json:
        print_json({"out": str(folder), "files": [
            {"file": each.path.name, "bytes": each.bytes, "largest_difference": each.apart} for each in written]})
        return
    rows = [(each.path.name, f"{each.bytes / 1e6:,.2f} MB", f"{each.apart:.1g}") for each in written]
    tell(*aligned([("file", "size", "largest difference from PyTorch"), *rows], right=(1, 2)))
    tell(f"in {folder}, with model.json")
