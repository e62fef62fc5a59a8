"""The commands `index` and `search`: images that are like others, duplicates, and who is who."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ..errors import UsageError
from ..progress import aligned, for_this_terminal, tell
from ..text import counted, for_shell, short
from .app import LATENTS, app, print_json
from .options import Device, Json, TableOut, table_beside
from .use import images_for, model_in, skipped_of

if TYPE_CHECKING:
    from ..data.imageset import ImageSet
    from ..downstream.image_index import ImageIndex
    from ..runs.searching import Searched

REFUSED, RATE = 0.9, 0.01
TOLD = 10
"""Queries, and images or groups of each kind, that are listed on screen."""


@app.command(group=LATENTS)
def index(run: str, data: str | None = None, /, *, features: bool = False, device: Device = "auto",
          json: Json = False) -> None:
    """Make an index of images, in which 'reparam search' finds what is like others.

    It is kept in the run's folder, with a thumbnail of each image, and takes the place of an earlier one.

    Parameters
    ----------
    run
        A run's folder.
    data
        Images: a folder, archive, .npy or .npz, sub-folders being labels; by default the run's own data.
    features
        Search by image features of EfficientNet too, which takes far longer.
    """
    from ..downstream.image_index import FILE
    from ..runs.searching import build_index

    made = build_index(run, data, features=features, device=device, report=for_this_terminal())
    made.save(Path(run))
    path, classes = Path(run) / FILE, len(made.classes) if made.has_labels else 0
    known = int((made.labels >= 0).sum())
    which = "" if known == len(made) else f", {known:,} with a label,"
    labelled = f"{which} of {counted(classes, 'class', 'classes')}" if classes else " without labels"
    if json:
        print_json({"index": str(path), "images": len(made), "classes": classes, "by": list(made.vectors),
                    "approximate": bool(made.graphs), "bytes": path.stat().st_size})
        return
    tell(f"{counted(len(made), 'image')}{labelled} by {' and '.join(made.vectors)} in {path}, "
         f"{path.stat().st_size / 2**20:,.1f} MiB", f"search it: reparam search {for_shell(run)} IMAGE")


@app.command(group=LATENTS)
def search(run: str, /, *images: str, n: Annotated[int, Parameter(name=["--number", "-n"])] = 20,
           by: Literal["codes", "features", "both"] = "codes", who: bool = False, refuse: float | None = None,
           duplicates: bool = False, rate: float | None = None, out: str | None = None, table_out: TableOut = None,
           device: Device = "auto", json: Json = False) -> None:
    """Find the images of an index that are nearest to others, say of which class an image is, or find duplicates.

    Parameters
    ----------
    run
        A run's folder, with an index that 'reparam index' made.
    images
        What to search for: image files, or one source of data as for training. With --duplicates: the images to look
        among; by default those of the index.
    n
        How many of the nearest to show for each.
    by
        What images are compared by: codes, whitened by their information; image features, if the index has them; or both.
    who
        Say of which class each image is, by a vote of its neighbours, or that it is of none of the index.
    refuse
        The share of images of unknown classes that --who is to call unknown. [default: 0.9]
    duplicates
        Find images of the same pixels, and near-duplicates.
    rate
        The share of images without a duplicate that --duplicates may call one by mistake. [default: 0.01]
    out
        The page, an .html; search.html or duplicates.html by default.
    """
    _check(images, n, who, refuse, duplicates, rate)
    page = Path(out if out is not None else "duplicates.html" if duplicates else "search.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out must be an .html file; got {out!r}")
    table = table_beside(page, table_out)
    from ..runs.searching import open_index

    model = model_in(run, device)
    made = open_index(run, model)
    found = images_for(model, images) if images else None
    _hint(made, json)
    title = Path(run).resolve().name
    if duplicates or found is None:
        _duplicates(made, found, by, RATE if rate is None else rate, title, page, table, json)
        return
    from ..runs.reports.search_page import search_dict, write_search
    from ..runs.searching import search as search_for

    answer = search_for(made, found, n=n, by=by, refused=(REFUSED if refuse is None else refuse) if who else None)
    write_search(answer, title, page, table)
    if json:
        print_json({"page": str(page), "table": str(table), **search_dict(answer), "skipped": skipped_of(found)})
        return
    _tell(answer)
    tell("", f"{page} shows them; {table} lists {'all' if who else 'all distances'}")


def _check(images: Sequence[str], n: int, who: bool, refuse: float | None, duplicates: bool, rate: float | None) -> None:
    """Whether flags go together, before anything is read."""
    if who and duplicates:
        raise UsageError("--who and --duplicates are two questions: give one of them")
    for flag, of, given, meant in (("--refuse", "--who", refuse, who), ("--rate", "--duplicates", rate, duplicates)):
        if given is not None and not meant:
            raise UsageError(f"{flag} is a share for {of}: give both")
    if not images and not duplicates:
        raise UsageError("name at least 1 image file to search for, or a folder of them; or --duplicates, for those of the "
                         "index")
    if n < 1:
        raise UsageError(f"-n must be at least 1, got {n}")


def _hint(made: ImageIndex, as_json: bool) -> None:
    from ..downstream.image_index import EXACT

    if len(made) > EXACT and not made.graphs and not as_json:
        tell(f"all of {len(made):,} images are compared; faster after: pip install \"reparam[search]\", and the index made "
             "again", error=True)


def _tell(found: Searched) -> None:
    from ..runs.reports.search_page import about_unknown, sentence_of, who_of

    tell(f"{sentence_of(found)}.", *([about_unknown(found.recogniser)] if found.recogniser is not None else []), "")
    heads = ("image", *(("who",) if found.recogniser is not None else ()), "nearest", "distance")
    rows = [(short(name, 32), *((short(who_of(found, i), 40),) if found.recogniser is not None else ()),
             short(found.index.names[int(found.found.rows[i, 0])], 32), f"{found.found.distance[i, 0]:.3f}")
            for i, name in enumerate(found.queries.names[:TOLD])]
    tell(*(f"  {line}" for line in aligned([heads, *rows], right=(len(heads) - 1,))))


def _duplicates(made: ImageIndex, found: ImageSet | None, by: Literal["codes", "features", "both"], rate: float, title: str,
                page: Path, table: Path, as_json: bool) -> None:
    from ..runs.reports.search_page import duplicates_dict, sentence_of_duplicates, write_duplicates
    from ..runs.searching import find_duplicates

    doubled = find_duplicates(made, found, by=by, rate=rate)
    write_duplicates(doubled, title, page, table)
    if as_json:
        print_json({"page": str(page), "table": str(table), **duplicates_dict(doubled),
                    "skipped": skipped_of(found) if found is not None else []})
        return
    tell(f"{sentence_of_duplicates(doubled)}.", *([""] if doubled.duplicates.groups else []))
    tell(*(f"  {', '.join(short(doubled.names[row], 32) for row in group.rows[:4])}"
           + (f", and {len(group.rows) - 4} more" if len(group.rows) > 4 else "")
           for group in doubled.duplicates.groups[:TOLD]))
    tell("", f"{page} shows them; {table} lists all")
