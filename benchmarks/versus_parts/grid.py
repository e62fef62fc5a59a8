"""One training of a player on a set for a budget, its plain draws, and its draws as they are best chosen."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from reparam.data.stream import to_batch
from reparam.errors import ReparamError
from reparam.features import get_features
from reparam.metrics.sampling import choose_sampling
from reparam.models.draw import Draw
from reparam.models.sampler import Sampler
from reparam.pretrained.files import load_model
from reparam.pretrained.pictures import grid, save_png
from reparam.runtime import keep_memory

from . import scales
from .judging import JUDGES, Judge, pictures_of
from .players import recipe_of
from .training import FIT_SECONDS, images_of, train
from .tune import chosen

SHOWN = 16
"""Samples of a seed that are kept as a picture."""


def judge_of(data: str, given: argparse.Namespace) -> Judge:
    source, _, test = images_of(data, given.data, scales.of(given).test)
    return Judge(data, to_batch(source.images[test]), given.inception, Path(given.work) / "features")


def measure(cell: str, given: argparse.Namespace) -> dict[str, Any]:
    """What a training cost and what its draws get."""
    data, name, minutes, seed = cell.split("-")
    settings = chosen(given.results, data, name)
    if settings is None:
        raise ReparamError(f"{cell} waits for `tune --only {data}-{name}`")
    source, indices, _ = images_of(data, given.data, scales.of(given).test)
    known, held = scales.parted(indices, scales.of(given))
    _, h, w, c = source.images.shape
    recipe = recipe_of(name, settings, data, (c, h, w), int(seed), chooses=True)
    out = Path(given.work) / cell
    told = {"data": data, "player": name, "minutes": float(minutes), "seed": int(seed)}
    seconds = 60 * float(minutes)
    try:
        facts = train(recipe, source.images, known, seconds, held, out, min(FIT_SECONDS, 0.2 * seconds))
    except ReparamError as e:
        return {**told, "failed": str(e)}
    keep_memory()
    sampler, _ = load_model(out)
    return {**told, **facts, **judged(sampler, judge_of(data, given), to_batch(source.images[held]), picture(cell, given))}


def judged(sampler: Sampler, judge: Judge, held: torch.Tensor, shown: Path) -> dict[str, Any]:
    """Figures of plain draws, and of draws in the way that held-out training images choose, where that is another."""
    plain = Draw(resample=False)
    began = time.process_time()
    drawn = pictures_of(sampler, len(judge.test), plain)
    drawing = time.process_time() - began
    shown.parent.mkdir(parents=True, exist_ok=True)
    save_png(grid((255 * drawn[:SHOWN]).round().byte().permute(0, 2, 3, 1).numpy(), SHOWN // 2), shown)
    found = {"images_per_second": round(len(drawn) / drawing), "plain": judge.figures(drawn)}
    began = time.process_time()
    sampling = choose_sampling(sampler, held, get_features(JUDGES[0]).embed, features=JUDGES[0])
    found["choosing_seconds"] = round(time.process_time() - began, 1)
    found["sampling"] = {"temperature": sampling.temperature, "keep": sampling.keep, "refine_temperature": sampling.refine_temperature}
    if not sampling.is_plain:
        found["chosen"] = judge.figures(pictures_of(sampler, len(judge.test), sampling.draw))
    return found


def picture(cell: str, given: argparse.Namespace) -> Path:
    """Where the first samples of a training are kept."""
    return given.results / "samples" / f"{cell}.png"
