"""The command `export`: a trained model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..progress import aligned, tell
from .app import USING, app, print_json
from .options import Json

if TYPE_CHECKING:
    from ..pretrained.image_model import ImageModel


@app.command(group=USING)
def export(run: str, /, *, format: Literal["onnx", "html"] = "onnx", out: str | None = None, json: Json = False) -> None:
    """Write a model for programs without PyTorch, or as one page for anybody's browser, compared with PyTorch on the spot.

    onnx: files for encoder, decoder and prior take images, codes and noise, and give codes, images and codes; model.json
    says their shapes and which latents matter. Without randomness inside, they give the same numbers everywhere.
    html: the whole model in one file, with sliders, samples and room for one's own photo. It opens offline, asks for nothing
    and sends nothing. It holds none of the training images.

    Parameters
    ----------
    run
        A run's folder, or that of a model alone.
    format
        onnx or html.
    out
        Folder, by default onnx/ in the run's; of html the file, by default model.html there.
    """
    from ..exporters.onnx import check_packages
    from ..pretrained.image_model import load

    check_packages()
    model = load(run, device="cpu")
    if format == "html":
        _page(model, Path(run), out, as_json=json)
    else:
        _files(model, Path(out) if out is not None else Path(run) / format, as_json=json)


def _files(model: ImageModel, folder: Path, *, as_json: bool) -> None:
    from ..exporters.onnx import export_onnx

    written = export_onnx(model, folder)
    if as_json:
        print_json({"out": str(folder), "files": [
            {"file": each.path.name, "bytes": each.bytes, "largest_difference": each.apart} for each in written]})
        return
    rows = [(each.path.name, f"{each.bytes / 1e6:,.2f} MB", f"{each.apart:.1g}") for each in written]
    tell(*aligned([("file", "size", "largest difference from PyTorch"), *rows], right=(1, 2)))
    tell(f"in {folder}, with model.json")


def _page(model: ImageModel, run: Path, out: str | None, *, as_json: bool) -> None:
    from ..exporters.html import export_html

    written = export_html(model, Path(out) if out is not None else run / "model.html", title=run.resolve().name)
    if as_json:
        print_json({"out": str(written.path), "bytes": written.bytes, "largest_difference": dict(written.apart),
                    "single_precision": list(written.single)})
        return
    rows = [(name, "float32" if name in written.single else "half", f"{apart:.1g}") for name, apart in written.apart.items()]
    tell(*aligned([("program", "weights", "largest difference from PyTorch"), *rows], right=(2,)))
    tell(f"{written.path}, {written.bytes / 1e6:,.1f} MB: opens in any browser, offline. It holds no training images")
