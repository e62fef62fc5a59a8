"""The explorer and exported pages in a browser: how quick they are, and how near to PyTorch.

    python benchmarks/explorer.py PART [--only CELL,CELL] [--work DIR] [--minutes 0.5] [--again]
    python benchmarks/explorer.py PART --table

A part is a module beside this one, named in PARTS, with what cells.py asks for and
    table(found)              lines of Markdown for the results by cell
    PAGE                      the page of docs/ that has the table, between <!-- PART --> and <!-- end of PART -->
Results stand in benchmarks/results/explorer; on a busy machine times are upper bounds. What has been measured is left out unless asked
for --again. `--table` writes the table into its page.
The browser is Debian's chromium, by playwright.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import explorer_html
import explorer_page
import explorer_watch
import torch
from cells import put, results, run

RESULTS = Path(__file__).parent / "results" / "explorer"
DOCS = Path(__file__).parents[1] / "docs"
PARTS = {"html": explorer_html, "page": explorer_page, "watch": explorer_watch}


def write_table(part: str) -> None:
    """Puts a part's table into its page."""
    path = DOCS / PARTS[part].PAGE
    lines = "\n".join(PARTS[part].table(results(RESULTS, part, PARTS[part])))
    path.write_text(put(path.read_text(encoding="utf-8"), part, lines), encoding="utf-8")


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
    elif not run(RESULTS, given.part, PARTS[given.part], given):
        sys.exit(1)


if __name__ == "__main__":
    main()
