"""VAE against GAN on the same data, with as many parameters and as many processor seconds; each player tuned on each set.

    python benchmarks/versus.py tune DATA                  settings of each player on each set, by successive halving
    python benchmarks/versus.py references DATA            floor and ceilings: training images, the average image, noise
    python benchmarks/versus.py grid DATA                  the trainings, of the players whose searches ended best, with their settings
    python benchmarks/versus.py table DATA                 docs/vae-versus-gan.md from what has been measured, and what is missing

DATA is a folder with mnist.npz, fashion-mnist.npz, faces64.zip and cifar10-jpeg.zip. A second network judges beside EfficientNet: get it
by `npm pack nsfwjs@4.3.0` and name its archive by `--inception`. What has been measured stands in benchmarks/results/versus, a file a
cell, and is left out, so that an interrupted command goes on where it stopped. Cells are DATA-PLAYER in `tune` (fashion-dcgan), DATA in
`references`, DATA-PLAYER-MINUTES-SEED in `grid` (fashion-dcgan-4-0), the most telling first; `--only fashion,faces-dcgan` takes those that
begin so, `--list` tells them, `--jobs 2` runs two side by side, each on a core of its own. `--smoke` tries every part of it in a few
minutes with figures that mean nothing, in --work.

Budgets are processor seconds (time.process_time) of one thread. On a machine whose cores share caches and power with other programs,
fewer steps fit into a second; counting steps would take away what a fast step is worth, so seconds count, and steps are told.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

from cells import run, side_by_side
from versus_parts import grid, references, scales, tune
from versus_parts.figures import Measured

RESULTS = Path(__file__).parent / "results" / "versus"
PARTS = {"tune": tune, "references": references, "grid": grid}


def missing(part: str, given: argparse.Namespace) -> list[str]:
    """Cells that are asked for, have not been measured, and can be."""
    wanted, scale = tuple(given.only.split(",")) if given.only else ("",), scales.of(given)
    cells = {"tune": scale.tunings, "references": lambda: scale.sets,
             "grid": lambda: scale.trainings(Measured.read(given.results).entrants(scale.players))}[part]()
    return [cell for cell in cells if cell.startswith(wanted) and not (given.results / f"{part}-{cell}.json").exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*PARTS, "table"))
    parser.add_argument("data", help="a folder with the four sets")
    parser.add_argument("--only", default="", help="beginnings of cells, with commas between")
    parser.add_argument("--inception", type=Path, default=Path("nsfwjs-4.3.0.tgz"), help="what `npm pack nsfwjs@4.3.0` leaves")
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side")
    parser.add_argument("--work", type=Path, default=Path("runs/versus"), help="for models and features")
    parser.add_argument("--list", action="store_true", help="tell the cells that would be measured")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    given.results, given.again = given.work / "smoke" if given.smoke else RESULTS, False
    if given.what == "table":
        from versus_parts.page import write

        write(given.results, scales.of(given), given.work if given.smoke else None)
        return
    todo = missing(given.what, given)
    if given.list:
        print("\n".join(todo))
    elif not given.inception.exists():
        parser.error(f"{given.inception} is not there: run `npm pack nsfwjs@4.3.0`, and name what it leaves by --inception")
    elif given.jobs > 1:
        passed = ["--inception", str(given.inception), "--work", str(given.work), *(["--smoke"] if given.smoke else [])]
        side_by_side([[given.what, given.data, "--only", cell, *passed] for cell in todo], given.jobs, __file__)
    else:
        given.only = ",".join(todo)
        if todo and not run(given.results, given.what, SimpleNamespace(CELLS=todo, measure=PARTS[given.what].measure), given):
            sys.exit(1)


if __name__ == "__main__":
    main()
