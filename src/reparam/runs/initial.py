"""Weights that a run starts from: those of another model of the same architecture."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ModelFileError, UsageError
from ..models.vae import Model
from ..parts.recipe import ARCHITECTURE, Recipe
from ..pretrained.config import Config
from ..pretrained.files import load_model, read_config
from ..tensors import Shape
from .records import Init


def find_init(folder: str | Path, recipe: Recipe) -> Init:
    """What a run records of the model in `folder` that it starts from.

    Raises:
        ModelFileError: no model there, or a damaged one.
        UsageError: a GAN, or a model of another architecture.
    """
    folder = Path(folder)
    config = read_config(folder)
    _check_parts(folder, config, recipe)
    load_model(folder)  # damaged weights are refused before anything is written
    return {"name": folder.resolve().name, "fingerprint": _fingerprint(folder), "path": str(folder.resolve())}


def start_from(init: Init, model: Model, recipe: Recipe, image_shape: Shape) -> None:
    """Puts the weights that a run starts from into its new model; what was trained after that model stays behind.

    Raises:
        ModelFileError: they are gone, or are others than they were.
        UsageError: they are of a model for other images.
    """
    folder = Path(init["path"])
    if not (folder / "model.safetensors").exists() or _fingerprint(folder) != init["fingerprint"]:
        raise ModelFileError(f"the model in {folder}, whose weights this run starts from, is gone or has changed: bring it "
                             "back, or start a new run")
    sampler, config = load_model(folder)
    _check_parts(folder, config, recipe)
    if config.image_shape != tuple(image_shape):
        (c, h, w), (channels, height, width) = config.image_shape, image_shape
        raise UsageError(f"the model in {folder} is for images of {w}×{h} with {c} channel{'s' if c > 1 else ''}, and the "
                         f"data are {width}×{height} with {channels}: "
                         + (f"give --image-size {w}, or another --init" if c == channels else "give another --init"))
    weights = sampler.model.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})


def _fingerprint(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]


def _check_parts(folder: Path, config: Config, recipe: Recipe) -> None:
    """Names the first part in which two architectures differ."""
    if "none" in (config.recipe.encoder, recipe.encoder):
        raise UsageError(f"a GAN does not start from other weights: its critic would start anew ({folder})")
    for name in ARCHITECTURE:
        theirs, ours = getattr(config.recipe, name), getattr(recipe, name)
        if theirs != ours:
            raise UsageError(f"the model in {folder} has {name}={theirs!r}, and this recipe {name}={ours!r}: to start from "
                             f"its weights give --{name} \"{theirs}\"")
