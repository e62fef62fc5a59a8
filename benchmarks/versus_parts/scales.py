"""How large a measurement is: the whole of it, or a smoke test of all its parts in a minute or two."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from reparam.parts.presets import PRESETS
from reparam.tensors import evenly

from .players import PLAYERS
from .searching import Rung

FIRST = ("default", "terse", "refined", "dcgan", "fastgan", "r3gan")
LATER = ("vae_gan", "sngan", "wgan_gp")
LONG_ONLY = ("latent_flow",)


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
    first: tuple[str, ...] = FIRST
    later: tuple[str, ...] = LATER
    long_only: tuple[str, ...] = LONG_ONLY

    def tunings(self) -> tuple[str, ...]:
        """DATA-PLAYER, the most telling first."""
        return tuple(f"{data}-{name}" for group in (self.first, self.later[:1], self.long_only, self.later[1:])
                     for data in self.sets for name in group if name in PRESETS)

    def trainings(self) -> tuple[str, ...]:
        """DATA-PLAYER-MINUTES-SEED, the most telling first."""
        short, long = self.minutes
        order = [(self.first, short, seed) for seed in self.seeds]
        order += [(self.later[:1], short, seed) for seed in self.seeds]
        order += [((*self.first, *self.long_only), long, self.seeds[0])]
        order += [(self.later[1:], short, seed) for seed in self.seeds] + [(self.later, long, self.seeds[0])]
        return tuple(f"{data}-{name}-{minutes:g}-{seed}" for players, minutes, seed in order for data in self.sets
                     for name in players if name in PRESETS and minutes >= min(PLAYERS[name].least, long))


FULL = Scale()
SMOKE = Scale(sets=("fashion",), rungs=(Rung(3, 2), Rung(1, 4)), judged=60, held=400, test=120, minutes=(0.05, 0.1),
              first=("default", "dcgan", "fastgan"), later=("terse",), long_only=())


def of(given: argparse.Namespace) -> Scale:
    return SMOKE if given.smoke else FULL


def parted(indices: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Training images that models learn from, and those, evenly spaced, that choose settings and ways of drawing."""
    held = np.zeros(len(indices), dtype=bool)
    held[evenly(len(indices), scale.held if len(indices) > 20_000 else scale.held // 4)] = True
    return indices[~held], indices[held]
