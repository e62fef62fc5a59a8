"""What the geometry of codes is good for: draws uniform by a metric's volume, and shortest ways between images.

riemannian: FD, precision, recall and coverage of 2,000 draws against 2,000 test images, beside the mixture that the default
preset fits; `spread` is chosen by the FD of 1,000 draws to the held-out images. `nearer` is the share of draws that lie nearer
to one of the images whose codes are centroids than to as many held-out ones.

paths: precision of the images inside ways of 10 steps between test images of different classes: the share that lies among test
images in the space of features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from downstream_parts.models import Set, trained
from reparam.data.stream import to_batch
from reparam.downstream.geometry import decoder_metric, fit_near_images, shortest_path
from reparam.downstream.statistics import FEATURE_NETWORK, image_features
from reparam.functional.distance import frechet_estimate
from reparam.functional.neighbours import nearer_to_training, prdc
from reparam.models.sampler import FITTED_PRIOR
from reparam.pretrained.pictures import grid, save_png
from reparam.tensors import evenly
from reparam.trainer.stages.base import Data, StageBudget
from reparam.trainer.stages.sequence import fit_anew

SETS = ("mnist", "fashion")
DRAWS, TRIED, FITTED, CENTROIDS = 2_000, 1_000, 10_000, 1_000
SPREADS = (0.5, 1.0, 2.0, 4.0)
PAIRS, STEPS = 30, 10


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    return {f"{part}-{name}": partial(measure, Set(name, data), work)
            for part, measure in (("riemannian", riemannian), ("paths", paths)) for name in SETS}


def some(rows: np.ndarray, n: int) -> np.ndarray:
    return rows[evenly(len(rows), n)]


def embedded(images: np.ndarray) -> torch.Tensor:
    return image_features(to_batch(images[..., None] if images.ndim == 3 else images))


def riemannian(images: Set, work: Path) -> dict:
    model = trained(images, "default", work)
    train, held_out, test = images.rows
    training, known = images.images[some(train, FITTED)], embedded(images.images[held_out])
    real = embedded(images.images[some(test, DRAWS)])
    found = {"mixture": figures(real, embedded(model.sample(DRAWS, seed=0)))}
    recipe = model.config.recipe.but(fitted_prior=f"riemannian({CENTROIDS})")
    fit_anew(FITTED_PRIOR, model.sampler, {}, recipe, Data(to_batch(training)), lambda _: StageBudget(steps=1))
    prior, trials = model.sampler.fitted_prior, {}
    for spread in SPREADS:
        prior.spread = spread
        trials[spread] = round(frechet_estimate(known, embedded(model.sample(TRIED, seed=1))).value, 1)
    prior.spread = min(trials, key=lambda each: trials[each])
    draws = embedded(model.sample(DRAWS, seed=0))
    rows = torch.cdist(prior.means, torch.from_numpy(model.encode(training)).flatten(1)).argmin(1)[: len(held_out)]
    copies, _ = nearer_to_training(draws, embedded(training[rows.numpy()]), known[: len(rows)])
    found["riemannian"] = figures(real, draws) | {"nearer": round(float(copies.mean()), 3)}
    return {"data": images.name, "features": FEATURE_NETWORK, "centroids": len(prior.means), "n": DRAWS,
            "fd_of_spreads_on_held_out": {f"{spread:g}": fd for spread, fd in trials.items()}, "spread": prior.spread,
            "priors": found}


def figures(real: torch.Tensor, draws: torch.Tensor) -> dict:
    fd, found = frechet_estimate(real, draws), prdc(real, draws)
    shares = {name: round(float(getattr(found, name).mean()), 3) for name in ("precision", "recall", "coverage")}
    return {"fd": round(fd.value, 1), "fd_interval": [round(fd.value + way * 1.96 * fd.error, 1) for way in (-1, 1)], **shares}


def paths(images: Set, work: Path) -> dict:
    model = trained(images, "default", work)
    train, _, test = images.rows
    real, y = embedded(images.images[some(test, DRAWS)]), images.labels["class"]
    generator = np.random.default_rng(0)
    pairs = [(a, b) for a, b in generator.choice(test, (4 * PAIRS, 2)) if y[a] != y[b]][:PAIRS]
    near = fit_near_images(model, images.images[some(train, FITTED)])
    ways: dict[str, list[np.ndarray]] = {"usual": [], "decoder": [], "codes": []}
    shares: dict[str, list[float]] = {"decoder": [], "codes": []}
    for a, b in pairs:
        ends = model.ends(images.images[a], images.images[b])
        ways["usual"].append(model.interpolate(images.images[a], images.images[b], STEPS))
        for name, metric in (("decoder", decoder_metric(model)), ("codes", near)):
            found = shortest_path(model, ends, STEPS, metric)
            ways[name].append(model.decode(found.codes.numpy()))
            shares[name].append(found.length / found.begun_with)
    save_png(grid(np.concatenate([ways[name][i] for i in range(8) for name in ways]), STEPS), work / f"paths-{images.name}.png")
    inside = {name: np.concatenate([way[1:-1] for way in each]) for name, each in ways.items()}
    ends = np.concatenate([way[[0, -1]] for way in ways["usual"]])
    return {"data": images.name, "features": FEATURE_NETWORK, "pairs": len(pairs), "images": len(inside["usual"]),
            "precision_of_ends": figures(real, embedded(ends))["precision"],
            "precision": {name: figures(real, embedded(each))["precision"] for name, each in inside.items()},
            "length_of_usual": {name: round(float(np.median(each)), 3) for name, each in shares.items()}}
