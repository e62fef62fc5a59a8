"""The command `map`: images in the plane, near ones where their codes are near."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..errors import UsageError
from ..parts.ranges import SOME_IMAGES
from ..progress import for_this_terminal, tell
from .app import LATENTS, app, print_json
from .options import Device, Json


@app.command(name="map", group=LATENTS)
def map_(run: str, /, *data: str, table: str | None = None, column: str | None = None,
         method: Literal["pca", "pacmap"] = "pca", n: Annotated[int, Parameter(name=["--number", "-n"])] = 5000,
         out: str | None = None, table_out: str | None = None, projector: str | None = None, device: Device = "auto",
         json: Json = False) -> None:
    """Lay images out in the plane, near ones where their codes are near: a picture, a page, and a table for other programs.

    Parameters
    ----------
    run
        A run's folder.
    data
        Image files, or one source of data as for training; by default the test or held-out images of the run's own data.
    table
        A .csv or .parquet of attributes: a first column of image names as in the data, then a column for each attribute.
    column
        What colours the points: a column of the table, or a factor of the data; by default their labels.
    method
        pca: the two leading principal components of the codes; pacmap keeps neighbourhoods and no distances, and needs
        pip install "reparam[map]".
    n
        Images at most, evenly spaced among more.
    out
        The picture, a .png; by default map.png in the run's folder. A page of the same name, .html, lies beside it.
    table_out
        A table of names, what is known, places, and codes, a .csv; or a .parquet, with the images in it, as Embedding Atlas
        opens it. By default map.parquet beside the picture, or map.csv without the package pyarrow.
    projector
        A folder for the files that TensorBoard's embedding projector opens.
    """
    SOME_IMAGES.check("-n", n)
    picture = Path(out) if out is not None else Path(run) / "map.png"
    if picture.suffix.lower() != ".png":
        raise UsageError(f"--out must be a .png file; got {out!r}")
    if projector is not None and Path(projector).is_file():
        raise UsageError(f"--projector takes a folder; {projector} is a file")
    table_to = _table(table_out, picture, table)
    from ..pretrained.pictures import save_png
    from ..runs.mapping import map_codes
    from ..runs.reports.map_page import write_map_page
    from ..runs.reports.map_picture import draw_map, sentence_of
    from ..runs.reports.map_table import write_map_table
    from ..runs.reports.projector import write_projector

    found = map_codes(run, list(data) or None, table=table, column=column, method=method, n=n, device=device,
                      report=for_this_terminal())
    save_png(draw_map(found), picture)
    write_map_page(found, Path(run).resolve().name, picture.with_suffix(".html"))
    write_map_table(found, table_to)
    if projector is not None:
        write_projector(found, Path(projector))
    trust = found.map.trustworthiness
    if json:
        print_json({"picture": str(picture), "page": str(picture.with_suffix(".html")), "table": str(table_to),
                    "projector": projector, "images": len(found.rows), "method": found.map.method,
                    "trustworthiness": trust if trust == trust else None, "colour": found.known and found.known.name,
                    "notes": list(found.notes)})
        return
    tell(f"{sentence_of(found)}.", *(f"{note}." for note in found.notes), "",
         f"{picture} shows it, {picture.with_suffix('.html')} every image under the pointer; {table_to} is for other "
         f"programs{f', {projector} for the projector' if projector else ''}")


def _table(named: str | None, picture: Path, attributes: str | None) -> Path:
    from ..files.tables import table_path

    default = picture.with_suffix(".parquet" if find_spec("pyarrow") is not None else ".csv")
    path = table_path(named) if named is not None else default
    if attributes is not None and Path(attributes).expanduser().resolve() == path.resolve():
        raise UsageError(f"the table {attributes} would be written over by the one of the map: name another --table-out")
    return path
