"""Seconds of training to the ELBO that Pythae's pipeline reaches on binary MNIST after ten epochs.

    a    with its defaults: Adam 1e-4, batches of 64, grey targets
    b    with its learning rate tuned: Adam 1e-3, batches of 128, black and white drawn anew at each step

Our recipes were chosen by `trials` on held-out training images; a cell measures them once, at one seed, on all test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .child import Program

SEEDS = 3
CELLS = tuple(f"{target}{seed}" for target in "ab" for seed in range(SEEDS))
EPOCHS = 10
RECIPES = json.loads((Path(__file__).parent / "recipes.json").read_text(encoding="utf-8"))
"""What all have, `base`; and what differs from it, of those `chosen` by target and kind, and of all that were `tried`."""


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    target, seed = cell[0], int(cell[1:])
    ours = {kind: RECIPES["base"] | changes for kind, changes in RECIPES["chosen"][target].items()}
    found = {"Pythae": once("with_pythae", target, str(given.data), 0, EPOCHS, seed)}
    for kind, fields in ours.items():
        found[kind] = once("ours", {**fields, "seed": seed}, str(given.data), 0)
    return {"runs": found, "recipes": ours}


def once(module: str, *arguments: Any) -> dict[str, Any]:
    """One training in a process of its own."""
    with Program(module, "trained", *arguments) as program:
        return program.turn()
