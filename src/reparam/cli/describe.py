"""The command `describe`: what a model's latents mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..parts.ranges import ROWS
from ..progress import aligned, for_this_terminal, tell
from ..text import short
from .app import LATENTS, app, print_json
from .options import Device, Json, TableOut, table_beside

if TYPE_CHECKING:
    from ..downstream.description import Described, Description


@app.command(group=LATENTS)
def describe(run: str, data: str | None = None, /, *, table: str | None = None, out: str | None = None,
             table_out: TableOut = None, dims: int = 16, device: Device = "auto", json: Json = False) -> None:
    """Say what a model's latents mean: what each moves in an image, and which labels and attributes it goes along with.

    Parameters
    ----------
    run
        A run's folder.
    data
        Images to look at; by default the test or held-out images of the run's own data.
    table
        A .csv or .parquet of attributes: a first column of image names as in the data, then a column for each attribute;
        images may be missing, and cells empty.
    out
        The page, an .html; by default latents.html in the run's folder.
    dims
        Latents, the most informative first.
    """
    ROWS.check("--dims", dims)
    page = Path(out) if out is not None else Path(run) / "latents.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out must be an .html file; got {out!r}")
    numbers = table_beside(page, table_out)
    if table is not None and Path(table).expanduser().resolve() == numbers.resolve():
        raise UsageError(f"the table {table} would be written over by the one of the latents, {numbers}: "
                         "name another --table-out")
    from ..runs.describing import describe as described
    from ..runs.reports.latents_page import description_dict, write_latents

    found = described(run, data, table=table, dims=dims, device=device, report=for_this_terminal())
    write_latents(found, Path(run).resolve().name, page, numbers)
    if json:
        print_json({"page": str(page), "table": str(numbers), **description_dict(found)})
        return
    _tell(found)
    tell("", f"{page} shows them, and the principal components and visible directions; {numbers} holds the numbers")


def _tell(found: Description) -> None:
    from ..runs.reports.latents_page import sentence_of

    tell(f"{sentence_of(found)}.", *found.notes, "")
    rows = [("latent", "nats", "goes with", "share", "95 % interval", "moves"), *map(_row, found.latents)]
    tell(*(f"  {line}" for line in aligned(rows, right=(1, 3))))


def _row(each: Described) -> tuple[str, ...]:
    name = f"{each.name.removeprefix('latent ')}{f' ({each.place})' if each.place else ''}"
    best, nats = each.best, f"{each.amount:.2f}" if each.amount else "–"
    if best is None:
        return name, nats, "–", "–", "–", each.moves
    return (name, nats, short(best.column, 24), f"{best.explained:.0%}",
            f"{100 * best.interval[0]:.0f} … {100 * best.interval[1]:.0f} %", each.moves)
