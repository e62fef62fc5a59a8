"""FD of samples to held-out images, by set, minutes and preset."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from reparam.data.stream import to_batch
from reparam.data.symmetry import mirrored
from reparam.functional.distance import frechet
from reparam.parts.presets import PRESETS
from reparam.parts.profiles import FEW, Situation, choose
from reparam.parts.recipe import Recipe
from reparam.pretrained.image_model import ImageModel
from reparam.pretrained.pictures import grid, save_png
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16
from reparam.trainer.budget import Budget

from .sets import HELD_OUT, NAMES, embedded, held_out_features, images_of

MINUTES = (2, 5, 30)
SMALL, MIDDLE = ("generate32",), ("generate64",)
OTHERS = {"mnist": SMALL, "fashion": SMALL, "cifar": SMALL, "textures": SMALL, "bands": SMALL,
          "faces": MIDDLE, "icons": MIDDLE, "photos": MIDDLE}
"""Presets of the images' size."""
AUTO_PLAYER = "auto"
PLAYERS = ("default", "terse", "latent_flow", "generate", AUTO_PLAYER)
CELLS = [f"{name}-{minutes}-{player}" for minutes in MINUTES for player in PLAYERS for name in NAMES]
SLOWEST = 600.0
"""Seconds of drawing after which a cell is given up."""


def preset_of(player: str, name: str) -> str:
    return OTHERS[name][0] if player == "generate" else player


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    name, minutes, player = cell.split("-")
    if player == AUTO_PLAYER:
        return measure_auto(name, float(minutes), given)
    recipe = PRESETS[preset_of(player, name)].recipe
    return scored(recipe, name, float(minutes), given.data, given.work / f"{cell}.png") | {"preset": preset_of(player, name)}


def measure_auto(name: str, minutes: float, given: argparse.Namespace) -> dict[str, Any]:
    """What `--preset auto` trains; where that is a preset as it stands, whose figures are there, it takes those."""
    images = images_of(name, given.data).training
    few = len(images) < FEW
    choice = choose(Situation(images=len(images), side=max(images.shape[1:3]), channels=images.shape[3], minutes=minutes,
                              mirrored=few and mirrored(images)))
    same = given.results / f"choice-{name}-{minutes:g}-{player_of(choice.preset)}.json"
    if not choice.changes and same.exists():
        return json.loads(same.read_text(encoding="utf-8")) | {"preset": choice.preset, "reason": choice.reason, "same": same.name}
    found = scored(choice.recipe, name, minutes, given.data, given.work / f"{name}-{minutes:g}-auto.png")
    return found | {"preset": choice.preset, "reason": choice.reason}


def player_of(preset: str) -> str:
    return "generate" if preset in SMALL + MIDDLE else preset


def scored(recipe: Recipe, name: str, minutes: float, folder: Path, picture: Path, count: int = 0) -> dict[str, Any]:
    """Trains a recipe for minutes of one core, everything that learns step by step within, and draws as many samples as
    there are held-out images."""
    torch.set_num_threads(1)
    images = images_of(name, folder, count)
    _, h, w, c = images.training.shape
    recipe = recipe.but(threads=1, compile="off", precision="bf16" if computes_in_bf16() else "float32")
    assembly, spent = Assembly(recipe, (c, h, w)).check(), [0, 0.0]

    def note(doing: str, state: Any) -> None:
        if doing == "training":
            spent[:] = [state.step, state.seconds]

    began = time.process_time()
    model = assembly.fit(assembly.stream(images.training), Budget(minutes=minutes, clock=time.process_time,
                                                                  precision=recipe.precision), note)
    trained = time.process_time()
    found = {"parameters": sum(p.numel() for p in model.sampler.parameters()), "steps": int(spent[0]),
             "seconds": round(trained - began, 1)}
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_png(grid(model.sample(32, seed=0), 8), picture)
    each = (time.process_time() - trained) / 32
    if each * HELD_OUT > SLOWEST:
        return found | {"fd": None, "why": f"{each:.1f} s a sample"}
    found["minus_elbo"] = round(-float(model.score_pixels(to_batch(images.held_out[:500])).mean()), 2)
    return found | {"fd": round(distance(model, name, folder, count), 1), "ms_a_sample": round(1000 * each, 1)}


def distance(model: ImageModel, name: str, folder: Path, count: int = 0) -> float:
    """FD of samples to held-out images."""
    samples = model.sample_pixels(HELD_OUT, seed=1).clamp(0, 1)
    return float(frechet(embedded(samples), held_out_features(name, folder, count)))
