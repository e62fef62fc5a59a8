"""Images a second of the same network under several programs, in turn: each in a process of its own."""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from typing import Any

from .child import Program

PYTHAE, TWO = "Pythae", "reparam, two processes"
PLAYERS: dict[str, dict[str, tuple[str, int, tuple[Any, ...]]]] = {
    "mlp": {f"{PYTHAE}, batches of 64": ("with_pythae", 64, ()),
            "plain loop, batches of 64": ("plain", 64, (True,)),
            "reparam, batches of 64": ("ours", 64, (0, False)),
            "reparam --compile, batches of 64": ("ours", 64, (0, True)),
            "plain loop, batches of 512": ("plain", 512, (True,)),
            "reparam, batches of 512": ("ours", 512, (0, False)),
            "reparam --compile, batches of 512": ("ours", 512, (0, True))},
    "resnet": {PYTHAE: ("with_pythae", 128, ()), "plain loop": ("plain", 128, (True,)), "reparam": ("ours", 128, (0, False)),
               "reparam --compile": ("ours", 128, (0, True)), TWO: ("ours", 128, (1, False, 2))},
    "vq": {PYTHAE: ("with_pythae", 128, ()), "plain loop": ("plain", 128, (True,)), "reparam": ("ours", 128, (0, False)),
           "reparam --compile": ("ours", 128, (0, True))},
    "vanilla": {"its own loop": ("plain", 64, (False,)), "plain loop": ("plain", 64, (True,)), "reparam": ("ours", 64, (0, False)),
                "reparam --compile": ("ours", 64, (0, True)), TWO: ("ours", 64, (1, False, 2))},
    "dcgan": {"the tutorial's loop": ("plain", 64, (False,)), "plain loop": ("plain", 64, (True,)),
              "reparam": ("ours", 64, (0, False)), "reparam --compile": ("ours", 64, (0, True))},
}
"""By network and name: the module, the batch, and further arguments of its `speed`; the first is the one to beat."""
CELLS = tuple(PLAYERS)


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    players = PLAYERS[cell]
    rates: dict[str, list[float]] = {name: [] for name in players}
    with ExitStack() as stack:
        programs = {name: stack.enter_context(Program(module, "speed", cell, str(given.data), batch, *more))
                    for name, (module, batch, more) in players.items()}
        for program in programs.values():
            program.turn()  # not counted
        for _ in range(given.rounds):
            for name, program in programs.items():
                rates[name].append(program.turn())
    told = {name: program.told for name, program in programs.items()}
    sizes = {t["parameters"] for t in told.values()}
    if len(sizes) > 1:
        raise ValueError(f"networks of different sizes are no comparison: {told}")
    return {"parameters": sizes.pop(),
            "images_per_second": {name: [round(r) for r in each] for name, each in rates.items()},
            "ratios": {name: ratio(each, rates[next(iter(players))]) for name, each in rates.items()},
            "to_plain": {name: ratio(each, rates[plain]) for name, each in rates.items()
                         if name.startswith("reparam") and (plain := _plain(name)) in rates},
            "told": told}


def _plain(name: str) -> str:
    """The plain loop with the same batch."""
    return "plain loop" + "".join(name.partition(",")[1:])


def ratio(rates: list[float], to: list[float]) -> dict[str, float]:
    """How many times as fast: the median over rounds, and the least and greatest."""
    each = [a / b for a, b in zip(rates, to, strict=True)]
    return {"median": round(statistics.median(each), 2), "least": round(min(each), 2), "greatest": round(max(each), 2)}
