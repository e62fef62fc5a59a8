"""The models whose codes are put to use: four sets of images, four presets, five minutes of one core, no labels."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import reparam
from reparam.data.imageset import ImageSet
from reparam.metrics.factors import read_table
from reparam.parts.presets import PRESETS
from reparam.pretrained.files import save_model
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16
from reparam.trainer.budget import Budget

FILES = {"mnist": "mnist.npz", "fashion": "fashion-mnist.npz", "faces": "faces64.zip", "cifar": "cifar10-jpeg.zip"}
MODELS = ("default", "terse", "latent_flow", "beta_tcvae")
MINUTES = 5.0
TESTED, HELD_OUT = 2_000, 1_000
"""Last images of a set without test images of its own; last training images, which choose settings and calibrate."""
FACTORS = ("skinColor", "hairColor", "hairVariant", "eyesVariant", "mouthVariant", "glassesVariant")
"""Of faces, as labels: a table has no class, so that figures are averages over these."""


@dataclass(frozen=True)
class Set:
    """Images of a set, what is known of each, and the rows to train, to choose and to test with."""

    name: str
    data: Path

    @cached_property
    def _opened(self) -> ImageSet:
        return reparam.open_images(str(self.data / FILES[self.name]))

    @property
    def images(self) -> np.ndarray:
        """(n, H, W, C), uint8."""
        return self._opened.images

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """What is to be told from an image: (n,) numbers of classes from 0."""
        if self.name != "faces":
            return {"class": np.asarray(self._opened.labels)}
        with zipfile.ZipFile(self.data / FILES[self.name]) as archive, tempfile.TemporaryDirectory() as folder:
            table = read_table(Path(archive.extract("factors.csv", folder)))
        columns = dict(zip(table.names, np.array([table.rows[name] for name in self._opened.names]).T, strict=True))
        return {name: np.unique(columns[name], return_inverse=True)[1] for name in FACTORS}

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """To train with, held out from training images, and for tests."""
        train, test = np.flatnonzero(~self._opened.test), np.flatnonzero(self._opened.test)
        if not len(test):
            train, test = train[:-TESTED], train[-TESTED:]
        shuffled = np.random.default_rng(0).permutation(train)  # folders come class by class
        return shuffled[:-HELD_OUT], shuffled[-HELD_OUT:], test


def trained(images: Set, preset: str, work: Path, *, rows: np.ndarray | None = None, labels: np.ndarray | None = None,
            minutes: float = MINUTES, name: str = "", **changes: object) -> reparam.ImageModel:
    """A preset's model, read from `work` where it has been trained; else of so many minutes of one core.

    `rows` in place of all for training; `name` for a model that differs from the preset's in these. A prior that is fitted
    at once comes on top of the minutes; `processor_seconds` beside the model counts all.
    """
    folder = work / images.name / (name or preset)
    if not (folder / "cost.json").exists():
        torch.set_num_threads(1)
        recipe = PRESETS[preset].recipe.but(threads=1, **changes)
        _, h, w, c = images.images.shape
        assembly, began = Assembly(recipe, (c, h, w)), time.process_time()
        state = None

        def watch(said: str, now: object) -> None:
            nonlocal state
            state = now if said == "training" else state

        model = assembly.fit(assembly.stream(images.images, images.rows[0] if rows is None else rows, labels), Budget(
            minutes=minutes, clock=time.process_time, precision="bf16" if computes_in_bf16() else "float32"), watch)
        save_model(folder, model.sampler, model.config)
        cost = {"processor_seconds": round(time.process_time() - began, 1), "steps": getattr(state, "step", 0)}
        (folder / "cost.json").write_text(json.dumps(cost))
        print(f"{folder}: {cost}", flush=True)
    return reparam.load(folder, device="cpu")


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    """Training alone, so that it can go on beside everything else."""
    return {f"{name}-{preset}": lambda name=name, preset=preset: cost(Set(name, data), preset, work)
            for preset in MODELS for name in FILES}


def cost(images: Set, preset: str, work: Path) -> dict:
    trained(images, preset, work)
    return json.loads((work / images.name / preset / "cost.json").read_text())
