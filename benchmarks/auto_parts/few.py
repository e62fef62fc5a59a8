"""A hundred images: what helps a model of them to say something of others. FD of samples and −ELBO of held-out images."""

from __future__ import annotations

import argparse
from typing import Any

from reparam.parts.presets import PRESETS

from .choice import scored

COUNT = 100
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {}, "latent16": {"latent": "flat(16)"}, "latent8": {"latent": "flat(8)"}, "flip": {"augment": "flip"},
    "crop": {"augment": "crop(2)"}, "both": {"latent": "flat(16)", "augment": "flip"},
    "heavy": {"objective": "nll + 3*kl"}}
CELLS = [f"{name}-{minutes}-{variant}" for minutes in (0.5, 2) for name in ("fashion", "faces", "photos") for variant in VARIANTS]


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    name, minutes, variant = cell.split("-")
    recipe = PRESETS["default"].recipe.but(**VARIANTS[variant])
    return scored(recipe, name, float(minutes), given.data, given.work / f"few-{cell}.png", COUNT) | {"images": COUNT}
