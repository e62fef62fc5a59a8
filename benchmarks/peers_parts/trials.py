"""What the recipes of `quality` were chosen from: on 5,000 held-out training images, with one thread and one seed.

Pythae gets eleven epochs of what is left, which are as many steps as ten of all. Time is the processor's, since trials ran
beside other work.
"""

from __future__ import annotations

import argparse
from typing import Any

from .quality import RECIPES, once

HELD_OUT = 5000
GIVEN: dict[str, Any] = {**RECIPES["base"], "seed": 100, "precision": "bf16", "threads": 1}
CELLS = ("pythae", *RECIPES["tried"])


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    if cell == "pythae":
        return {"trials": [], "runs": {t: once("with_pythae", t, str(given.data), HELD_OUT, 11, GIVEN["seed"]) for t in "ab"}}
    return {"trials": [{"changes": changes, **once("ours", GIVEN | changes, str(given.data), HELD_OUT)}
                       for changes in RECIPES["tried"][cell]]}
