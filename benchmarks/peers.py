"""reparam beside other programs: images a second of the same network, seconds to the same quality, share of the machine.

    python benchmarks/peers.py speed MNIST.npz                     all cells of a part; goes on where it stopped
    python benchmarks/peers.py quality MNIST.npz --only a0,b0      some of them
    python benchmarks/peers.py speed MNIST.npz --only mlp --again  measured anew
    python benchmarks/peers.py trials MNIST.npz                    settings tried on held-out training images
    python benchmarks/peers.py --table                             writes docs/benchmarks.md from all results

    speed      the same network in Pythae (MLP, ResNet, VQ-VAE), in the loops of AntixK's VanillaVAE and of PyTorch's DCGAN
               tutorial, in a plain loop as a careful user writes it, and in reparam's, compiled and not: in turn, each in a
               process of its own, the median of five rounds and of their ratios
    quality    seconds of training to the ELBO that Pythae reaches after ten epochs, (a) with its defaults, (b) tuned
    roofline   what share of this machine's convolutions and matrix products, measured on the spot at the network's own
               shapes, a training step reaches
    trials     what `quality` was chosen from

Results lie in benchmarks/results/peers/PART-CELL.json, each with the processor, whether it computes in bfloat16, its cores,
the load, and how much of the machine other programs took meanwhile.

Pythae is not among reparam's dependencies. It runs on today's torch when it is installed without its own:

    pip install --target pythae --no-deps pythae==0.1.2 pydantic pydantic_core annotated_types typing_inspection imageio
    PYTHONPATH=pythae python benchmarks/peers.py speed MNIST.npz
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from downstream import processor
from peers_parts import quality, roofline, speed, trials
from peers_parts.tables import write

from reparam.files.writing import write_json
from reparam.runtime import Load, cores
from reparam.trainer.autotune import computes_in_bf16

RESULTS = Path(__file__).parent / "results" / "peers"
PARTS = {"speed": speed, "quality": quality, "roofline": roofline, "trials": trials}
"""Modules with `CELLS`, names of what is measured by itself, and `measure(cell, given)`, its figures as JSON holds them."""


def results(part: str) -> dict[str, dict[str, Any]]:
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
        load, began = Load(), time.perf_counter()
        try:
            found = PARTS[part].measure(cell, given)
        except Exception:
            traceback.print_exc()
            well = False
            continue
        machine = {"processor": processor(), "bf16": computes_in_bf16(), "cores": cores(),
                   "load": round(os.getloadavg()[0], 1), "cores_taken_by_others": round(cores() - load.free(), 2),
                   "seconds": round(time.perf_counter() - began)}
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / f"{part}-{cell}.json", {**found, "machine": machine})
        print(cell, found, machine, file=sys.stderr, flush=True)
    return well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=tuple(PARTS))
    parser.add_argument("data", nargs="?", type=Path, help="mnist.npz")
    parser.add_argument("--only", default="", help="cells, with commas between")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program in 'speed'")
    parser.add_argument("--again", action="store_true", help="also what has been measured")
    parser.add_argument("--table", action="store_true", help="write the tables into docs/benchmarks.md")
    given = parser.parse_args()
    if given.table:
        write({part: results(part) for part in PARTS})
    elif given.part is None or given.data is None:
        parser.error("name a part, and the file of MNIST's images")
    elif not run(given.part, given):
        sys.exit(1)


if __name__ == "__main__":
    main()
