"""The explorer and exported pages in a browser: how quick they are, and how near to PyTorch.

    python benchmarks/explorer.py PART [--only CELL,CELL] [--work DIR] [--minutes 0.5] [--again]
    python benchmarks/explorer.py PART --table

A part is a module beside this one, named in PARTS, with
    CELLS                     names of what is measured, each by itself
    measure(cell, given)      the figures of one, as JSON holds them; `given` are the arguments
    table(found)              lines of Markdown for the results by cell
    PAGE                      the page of docs/ that has the table, between <!-- PART --> and <!-- end of PART -->
Each result stands in benchmarks/results/explorer/PART-CELL.json, with the processor, its number of cores and how busy they were: on a
busy machine times are upper bounds. What has been measured is left out unless asked for --again. `--table` writes the table into its page.
The browser is Debian's chromium, by playwright.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
from pathlib import Path

import explorer_html
import explorer_page
import explorer_watch
import torch
from downstream import processor

from reparam.files.writing import write_json

RESULTS = Path(__file__).parent / "results" / "explorer"
DOCS = Path(__file__).parents[1] / "docs"
PARTS = {"html": explorer_html, "page": explorer_page, "watch": explorer_watch}


def results(part: str) -> dict[str, dict]:
    """What has been measured, by cell."""
    paths = {cell: RESULTS / f"{part}-{cell}.json" for cell in PARTS[part].CELLS}
    return {cell: json.loads(path.read_text(encoding="utf-8")) for cell, path in paths.items() if path.exists()}


def run(part: str, given: argparse.Namespace) -> bool:
    """Measures what is asked for and not there yet; says whether all went well."""
    well, there = True, {} if given.again else results(part)
    wanted = given.only.split(",") if given.only else PARTS[part].CELLS
    unknown = set(wanted) - set(PARTS[part].CELLS)
    if unknown:
        sys.exit(f"{part} has no {', '.join(sorted(unknown))}: there are {', '.join(PARTS[part].CELLS)}")
    for cell in wanted:
        if cell in there:
            continue
        try:
            found = PARTS[part].measure(cell, given)
        except Exception:
            traceback.print_exc()
            well = False
            continue
        machine = {"processor": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / f"{part}-{cell}.json", {**found, "machine": machine})
        print(cell, found, file=sys.stderr, flush=True)
    return well


def write_table(part: str) -> None:
    """Puts a part's table into its page."""
    path = DOCS / PARTS[part].PAGE
    before, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    lines = "\n".join(PARTS[part].table(results(part)))
    text, times = re.subn(f"{before}.*?{end}", lambda _: f"{before}{lines}\n{end}", path.read_text(encoding="utf-8"), flags=re.S)
    if times != 1:
        sys.exit(f"{path} has no place for the table of {part}")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--only", default="")
    parser.add_argument("--work", type=Path, default=Path("runs/explorer"), help="where models are kept; those that are there are taken")
    parser.add_argument("--minutes", type=float, default=0.5, help="of training")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.table:
        write_table(given.part)
    elif not run(given.part, given):
        sys.exit(1)


if __name__ == "__main__":
    main()
