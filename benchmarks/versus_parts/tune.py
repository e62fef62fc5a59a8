"""Each player's settings on each set: the same number of trials and the same processor seconds for all, on training images."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reparam.data.stream import to_batch
from reparam.errors import ReparamError
from reparam.functional.distance import frechet
from reparam.models.draw import Draw
from reparam.pretrained.files import load_model
from reparam.runtime import keep_memory
from reparam.tensors import evenly

from . import scales
from .judging import JUDGES, pictures_of
from .players import recipe_of, settings_of
from .searching import Rung, halving
from .training import embedded, images_of, train

KEPT_BACK, CODES = 12, 5000
"""Seconds of a trial that a VAE with a mixture keeps back for fitting it, and the codes that it is fitted to: four times as
many take 20 to 40 s."""


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    """All trials of a player on a set, and the settings that were chosen."""
    data, name = cell.split("-")
    scale = scales.of(given)
    settings = settings_of(name, data, scale.rungs[0].settings)
    began, trials = time.process_time(), []

    def judge(number: int, rung: Rung) -> float:
        found = trial(name, settings[number], data, given, rung)
        trials.append({"number": number, "seconds": rung.seconds, "settings": settings[number], **found})
        return found.get("fd", math.nan)

    chosen = halving(scale.rungs, judge)
    return {"data": data, "player": name, "chosen": chosen, "settings": settings[chosen], "trials": trials,
            "processor_seconds": round(time.process_time() - began)}


def trial(name: str, settings: dict[str, str], data: str, given: argparse.Namespace, rung: Rung) -> dict[str, Any]:
    """One training, judged by the first network on training images that it did not see; what went wrong, if anything."""
    scale = scales.of(given)
    source, indices, _ = images_of(data, given.data)
    known, held = scales.parted(indices, scale)
    _, h, w, c = source.images.shape
    out = Path(given.work) / "trials" / f"{data}-{name}"
    shutil.rmtree(out, ignore_errors=True)
    try:
        recipe = recipe_of(name, settings, data, (c, h, w), 0, chooses=False)
        facts = train(recipe, source.images, known, rung.seconds, held, out, min(KEPT_BACK, rung.seconds / 2), points=0, codes=CODES)
    except ReparamError as e:
        return {"failed": str(e)}
    keep_memory()
    sampler, _ = load_model(out)
    real = held_features(data, given.data, scale)
    fd = frechet(embedded(pictures_of(sampler, len(real), Draw(resample=False)), JUDGES[0]), real)
    return {"fd": round(fd, 2), "parameters": facts["parameters"], "steps": facts["steps"],
            "taken": round(facts["training_seconds"] + facts["fit_seconds"], 1)}


@cache
def held_features(data: str, folder: str, scale: scales.Scale) -> np.ndarray:
    """Of the training images that judge trials."""
    source, indices, _ = images_of(data, folder)
    _, held = scales.parted(indices, scale)
    return embedded(to_batch(source.images[held[evenly(len(held), scale.judged)]]), JUDGES[0])


def chosen(results: Path, data: str, name: str) -> dict[str, str] | None:
    """The settings with which a player is run on a set, once they are found."""
    path = results / f"tune-{data}-{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["settings"] if path.exists() else None

