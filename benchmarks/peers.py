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
import sys
from pathlib import Path
from typing import Any

from cells import results, run
from peers_parts import quality, roofline, speed, trials
from peers_parts.tables import write

RESULTS = Path(__file__).parent / "results" / "peers"
PARTS = {"speed": speed, "quality": quality, "roofline": roofline, "trials": trials}
"""Modules as cells.py asks for."""


def measured() -> dict[str, dict[str, dict[str, Any]]]:
    """All results, by part and cell."""
    return {name: results(RESULTS, name, part) for name, part in PARTS.items()}


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
        write(measured())
    elif given.part is None or given.data is None:
        parser.error("name a part, and the file of MNIST's images")
    elif not run(RESULTS, given.part, PARTS[given.part], given):
        sys.exit(1)


if __name__ == "__main__":
    main()
