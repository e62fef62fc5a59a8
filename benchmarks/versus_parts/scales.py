"""How large a measurement is: the whole of it, or a smoke test of all its parts in a minute or two."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reparam.tensors import evenly

from .players import ENTERING, PLAYERS
from .searching import Rung


@dataclass(frozen=True)
class Scale:
    """Budgets and numbers of images."""

    sets: tuple[str, ...] = ("fashion", "faces", "mnist", "cifar")
    rungs: tuple[Rung, ...] = (Rung(9, 25), Rung(3, 75))
    judged: int = 2000
    """Draws of a trial, and held-out training images."""
    held: int = 4000
    """Training images that no model sees, of sets of more than 20,000; of smaller ones a quarter as many."""
    test: int = 10_000
    """Test images, and draws, at most."""
    minutes: tuple[float, float] = (4, 10)
    seeds: tuple[int, ...] = (0, 1, 2)
    players: tuple[str, ...] = tuple(PLAYERS)

    def tunings(self) -> tuple[str, ...]:
        """DATA-PLAYER, the most telling first."""
        return tuple(f"{data}-{name}" for name in self.players for data in self.sets)

    def trainings(self, entrants: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[str, ...]:
        """DATA-PLAYER-MINUTES-SEED, each side's best player first.

        Args:
            entrants: the players of each side that enter, best first, by set.
        """
        short, long = self.minutes
        budgets = [*((short, seed) for seed in self.seeds), (long, self.seeds[0])]
        return tuple(f"{data}-{names[place]}-{minutes:g}-{seed}" for place in range(max(ENTERING.values())) for minutes, seed in budgets
                     for data in self.sets for names in entrants.get(data, {}).values() if place < len(names))

    def number_of_trainings(self) -> int:
        return len(self.sets) * sum(ENTERING.values()) * (len(self.seeds) + 1)


FULL = Scale()
SMOKE = Scale(sets=("fashion",), rungs=(Rung(3, 2), Rung(1, 4)), judged=60, held=400, test=120, minutes=(0.05, 0.1),
              players=("default", "terse", "dcgan", "fastgan"))


def of(given: argparse.Namespace) -> Scale:
    return SMOKE if given.smoke else FULL


def parted(indices: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Training images that models learn from, and those, evenly spaced, that choose settings and ways of drawing."""
    held = np.zeros(len(indices), dtype=bool)
    held[evenly(len(indices), scale.held if len(indices) > 20_000 else scale.held // 4)] = True
    return indices[~held], indices[held]
