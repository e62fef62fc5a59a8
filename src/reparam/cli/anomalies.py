"""The command `anomalies`: which images are unlike those that a model was trained on."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..progress import aligned, for_this_terminal, tell
from ..text import short
from .app import LATENTS, app, print_json
from .options import Device, Json, TableOut, table_beside

TOLD = 10
"""Odd images that are listed on screen."""


@app.command(group=LATENTS)
def anomalies(run: str, data: str, /, *, score: str | None = None, rate: float = 0.1, out: str = "anomalies.html",
              table_out: TableOut = None, device: Device = "auto", json: Json = False) -> None:
    """Find the images that are unlike those that a model was trained on, and where they differ.

    What is typical is measured on the run's own training and held-out images the first time, and kept in the run's folder.

    Parameters
    ----------
    run
        A run's folder.
    data
        Images to judge: a folder, archive, .npy or .npz.
    score
        Statistics to combine, separated by commas, such as rate,distortion; by default
        rate,distortion,corrected,code_distance,local. There are typicality, regret and features too.
    rate
        Share of mistakes that is expected among the images that are called odd.
    out
        The page, an .html, with the oddest first.
    """
    page = Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out must be an .html file; got {out!r}")
    table = table_beside(page, table_out)
    from ..runs.anomalies import anomalies as judged
    from ..runs.reports.anomalies_page import sentence_of, unusual, write_anomalies

    found = judged(run, data, score=score, rate=rate, device=device, report=for_this_terminal())
    write_anomalies(found, Path(run).resolve().name, page, table)
    names, p = found.images.names, found.oddness.p_value
    if json:
        print_json({"page": str(page), "table": str(table), "images": len(names), "odd": int(found.odd.sum()),
                    "rate": rate, "score": list(found.oddness.names), "calibrated_on": found.calibrated_on,
                    "oddest": [{"name": names[i], "p_value": float(p[i]), "odd": bool(found.odd[i])}
                               for i in found.order[:TOLD]]})
        return
    tell(f"{sentence_of(found)}.", "")
    rows = [("image", "p", "what is unusual"), *((short(names[i], 32), f"{p[i]:.3g}", unusual(found, int(i)))
                                               for i in found.order[:TOLD])]
    tell(*(f"  {line}" for line in aligned(rows, right=(1,))))
    tell("", f"{page} shows the oddest, the oddest first; {table} lists all")
