"""The command `export`: a trained model for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ..errors import DataError, UsageError
from ..parts.ranges import SOME_IMAGES
from ..progress import aligned, for_this_terminal, tell
from .app import USING, app, print_json
from .options import Json

if TYPE_CHECKING:
    from ..exporters.points import Points
    from ..pretrained.image_model import ImageModel


@app.command(group=USING)
def export(run: str, /, *, format: Literal["onnx", "html"] = "onnx", data: str | None = None,
           no_data: Annotated[bool, Parameter(negative="")] = False,
           n: Annotated[int, Parameter(name=["--number", "-n"])] = 5000, out: str | None = None, json: Json = False) -> None:
    """Write a model for programs without PyTorch, or as one page for anybody's browser, compared with PyTorch on the spot.

    onnx: files for encoder, decoder and prior take images, codes and noise, and give codes, images and codes; model.json
    says their shapes and which latents matter. Without randomness inside, they give the same numbers everywhere.
    html: the whole model in one file, with sliders, samples, room for one's own photo and a map of images. It opens offline,
    asks for nothing and sends nothing.

    Parameters
    ----------
    run
        A run's folder, or that of a model alone.
    format
        onnx or html.
    data
        Of html, the images of its map: a source as for training. Whoever has the page can see them. By default the test or
        held-out images of the run's own data, if you agree when asked.
    no_data
        Of html, no images and no map. So it is without a terminal to ask at.
    n
        Of html, images at most, evenly spaced among more; 5,000 are the most, and fewer where codes are of many numbers.
    out
        Folder, by default onnx/ in the run's; of html the file, by default model.html there.
    """
    SOME_IMAGES.check("-n", n)
    if data is not None and no_data:
        raise UsageError("--data and --no-data exclude each other: name images for the map, or leave it out")
    if format == "onnx" and (data is not None or no_data):
        raise UsageError("--data and --no-data are of --format html: ONNX files hold no images")
    from ..exporters.onnx import check_packages
    from ..pretrained.image_model import load

    check_packages()
    model = load(run, device="cpu")
    if format == "html":
        _page(model, Path(run), None if no_data else _points(model, Path(run), data, n), out, as_json=json)
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


def _page(model: ImageModel, run: Path, shown: tuple[Points | None, str] | None, out: str | None, *, as_json: bool) -> None:
    from ..exporters.html import export_html

    points, why = shown or (None, "")
    to = Path(out) if out is not None else run / "model.html"
    written = export_html(model, to, title=run.resolve().name, points=points)
    images = 0 if points is None else len(points.codes)
    if as_json:
        print_json({"out": str(written.path), "bytes": written.bytes, "largest_difference": dict(written.apart),
                    "single_precision": list(written.single), "images": images, "without_images": why})
        return
    rows = [(name, "float32" if name in written.single else "half", f"{apart:.1g}") for name, apart in written.apart.items()]
    tell(*aligned([("program", "weights", "largest difference from PyTorch"), *rows], right=(2,)))
    held = f"It holds {images:,} images of the data, for whoever has it to see" if images else \
        f"It holds no images of the data{why and f', and no map of them: {why}'}"
    tell(f"{written.path}, {written.bytes / 1e6:,.1f} MB: opens in any browser, offline. {held}")


def _points(model: ImageModel, run: Path, data: str | None, n: int) -> tuple[Points | None, str]:
    """Images for the map, if there are some and they may be shown; or why not."""
    from ..exporters.points import Points, most_points
    from ..runs.mapping import map_codes
    from ..runs.measuring import run_of

    if not model.network.has_encoder:
        if data is not None:
            raise UsageError("a GAN cannot encode images, so that there is no map of them: leave out --data")
        return None, "a GAN cannot encode images"
    if data is None and run_of(run) is None:
        return None, "nothing here tells what they were; name some by --data"
    if data is None and not _is_asked():
        return None, "there is nobody to ask whether they may be seen; name some by --data"
    try:
        found = map_codes(run if data is None else model, None if data is None else [data], n=min(n, most_points(model)),
                          device="cpu", report=for_this_terminal())
    except DataError as e:
        if data is not None:
            raise
        return None, str(e)
    if data is None and not _agreed(len(found.codes)):
        return None, "as you wished"
    return Points(found.pixels, found.codes, found.known), ""


def _is_asked() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(n: int) -> bool:
    """Asks whether images may be in the page."""
    sys.stderr.write(f"Put a map of {n:,} test or held-out images of the run's data into the page? Whoever has the page can "
                     "see them. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
