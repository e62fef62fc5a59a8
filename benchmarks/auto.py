"""Which preset serves which images, machine and minutes: the measurements behind `--preset auto`.

    python benchmarks/auto.py choice DATA                     all cells of a part; goes on where it stopped
    python benchmarks/auto.py choice DATA --only mnist-2-terse,mnist-2-default

    choice     FD of samples to 2,000 held-out images after 2, 5 and 30 minutes of one core, by set and preset, or auto
    few        the same of a hundred training images, and the held-out −ELBO, by what is changed of the default recipe
    plan       seconds and memory that `reparam plan` foretells of six trainings of a minute, and what they take

    python benchmarks/auto.py --table                         writes the tables of docs/auto.md from all results

DATA is a folder with mnist.npz, fashion-mnist.npz, faces64.zip and cifar10-jpeg.zip; the other four sets are drawn on the spot.
Test images choose nothing and are not looked at. Results lie in benchmarks/results/auto/PART-CELL.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from auto_parts import choice, few, plan
from auto_parts.tables import told
from cells import put, results, run

RESULTS = Path(__file__).parent / "results" / "auto"
PAGE = Path(__file__).parents[1] / "docs" / "auto.md"
PARTS = {"choice": choice, "few": few, "plan": plan}
"""Modules as cells.py asks for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=tuple(PARTS))
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--table", action="store_true", help="write the tables into docs/auto.md")
    parser.add_argument("--only", default="", help="cells, with commas between")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--work", type=Path, default=Path("runs/auto"), help="where pictures and runs are left")
    given = parser.parse_args()
    given.results = RESULTS
    if given.table:
        lines = told({name: results(RESULTS, name, part) for name, part in PARTS.items()})
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), "auto", lines), encoding="utf-8")
    elif given.part is None or given.data is None:
        parser.error("name a part, and the folder of the data")
    elif not run(RESULTS, given.part, PARTS[given.part], given):
        sys.exit(1)


if __name__ == "__main__":
    main()
