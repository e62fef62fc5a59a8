"""Accuracy of the probe with 10, 100, 1,000 labels and with all 5,000, on codes and on what codes compete with.

Every player gets the same 5,000 training images, the same five draws of labels (evenly over the classes; the other images
stay without one, as for `reparam classify --labels`), the same `fit_probe` and the same 1,000 test images. The pixels of
colour images are their first 1,024 principal components; `kept` is the share of variance in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from reparam.data.stream import keep_labels, to_batch
from reparam.downstream.classifier import MOST_NUMBERS, code_vectors
from reparam.downstream.classify import fit_probe
from reparam.downstream.statistics import image_features
from reparam.parts.presets import PRESETS
from reparam.pretrained.image_model import ImageModel
from reparam.trainer.assembly import Assembly
from reparam.trainer.budget import Budget

from .models import FILES, MODELS, Set, trained

COUNTS, DRAWS = (10, 100, 1_000), 5
POOL, TESTED = 5_000, 1_000
DIMS = (16, 32, 64)
"""Of PCA: as many as beta_tcvae, terse and default have; latent_flow has about as many as there are pixels."""
PLAYERS = (*MODELS, "untrained", *(f"pca{d}" for d in DIMS), "pixels", "features")


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    return {f"{images.name}-{player}": partial(measured, images, player, work)
            for images in (Set(name, data) for name in FILES) for player in PLAYERS}


def measured(images: Set, player: str, work: Path) -> dict:
    """Accuracies of each number of labels, a list over draws; of all labels, one."""
    pool, test = images.rows[0][:POOL], images.rows[2]
    test = np.random.default_rng(0).permutation(test)[:TESTED]
    began = time.process_time()
    vectors, facts = vectors_of(images, player, work, np.concatenate([pool, test]))
    known, unseen = vectors[: len(pool)], vectors[len(pool) :]
    found: dict[str, list[list[float]]] = {}
    kinds: dict[str, list[str]] = {}
    encoded = time.process_time()
    for labels in images.labels.values():
        for count in (*COUNTS, POOL):
            each = []
            for draw in range(DRAWS if count < POOL else 1):
                probe = fit_probe(known, drawn(labels[pool], count, draw))
                each.append(float((probe.predict(unseen) == labels[test]).mean()))
                kinds.setdefault(str(count), []).append(probe.kind)
            found.setdefault(str(count), []).append(each)
    return {**facts, "numbers": known.shape[1], "labelled_and_not": POOL, "tested": len(test), "factors": list(images.labels),
            "accuracy": {count: np.mean(each, 0).round(5).tolist() for count, each in found.items()},
            "by_factor": {count: np.mean(each, 1).round(4).tolist() for count, each in found.items()}, "kinds": kinds,
            "seconds": {"vectors": round(encoded - began, 1), "probes": round(time.process_time() - encoded, 1)}}


def drawn(labels: np.ndarray, count: int, draw: int) -> np.ndarray:
    """Labels of which `count` are left, evenly over the classes, or fewer where a class has too few; all of them as they are."""
    return labels if count >= len(labels) else keep_labels(labels, np.arange(len(labels)), count, draw)


def vectors_of(images: Set, player: str, work: Path, rows: np.ndarray) -> tuple[np.ndarray, dict]:
    """What the probe sees of the images at `rows`, of which the first `POOL` may be learned from."""
    x = images.images[rows]
    if player in MODELS:
        return code_vectors(trained(images, player, work), x), {}
    if player == "untrained":
        return code_vectors(untrained(images), x), {}
    if player == "features":
        return image_features(to_batch(x)).double().numpy(), {}
    flat = x.reshape(len(x), -1) / 255.0
    if player == "pixels" and flat.shape[1] <= MOST_NUMBERS:
        return flat, {}
    return components(flat, MOST_NUMBERS if player == "pixels" else int(player.removeprefix("pca")))


def components(flat: np.ndarray, dims: int) -> tuple[np.ndarray, dict]:
    """The first principal components of the pool, and the share of its variance that they keep."""
    centred = torch.from_numpy(flat - flat[:POOL].mean(0)).float()
    values, vectors = torch.linalg.eigh(centred[:POOL].T @ centred[:POOL] if flat.shape[1] <= POOL
                                        else centred[:POOL] @ centred[:POOL].T)
    values, vectors = values.flip(0)[:dims], vectors.flip(1)[:, :dims]
    axes = vectors if flat.shape[1] <= POOL else centred[:POOL].T @ vectors / values.clamp(min=1e-6).sqrt()
    kept = float(values.sum() / centred[:POOL].square().sum())
    return (centred @ axes).double().numpy(), {"kept": round(kept, 5)}


def untrained(images: Set) -> ImageModel:
    """The default recipe after one step at a learning rate of nearly nothing."""
    _, h, w, c = images.images.shape
    recipe = PRESETS["default"].recipe.but(threads=1, steps=1, fitted_prior="none", optimizer="adamw(lr=1e-12)", ema=0.0)
    assembly = Assembly(recipe, (c, h, w))
    return assembly.fit(assembly.stream(images.images, images.rows[0], None), Budget(steps=1))


def interval(values: list[float]) -> float:
    """Half of a 95 % interval of the mean, by Student's t over draws."""
    return float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)


def table(results: Path) -> str:
    """Of each set: accuracies in per cent, and how far the default model's codes are ahead, draw by draw."""
    lines = []
    for name in FILES:
        read = {p: json.loads(path.read_text()) for p in PLAYERS if (path := results / f"classify-{name}-{p}.json").exists()}
        if not read:
            continue
        lines += [f"| {name} | numbers | 10 labels | 100 labels | 1,000 labels | {POOL:,} labels |", "|---|---|---|---|---|---|"]
        for player, cell in read.items():
            shown = [f"{100 * np.mean(a):.1f} ± {100 * interval(a):.1f}" if len(a) > 1 else f"{100 * a[0]:.1f}"
                     for a in cell["accuracy"].values()]
            lines.append(f"| {player} | {cell['numbers']:,} | {' | '.join(shown)} |")
        for other in ("pca64", "pixels"):
            if "default" in read and other in read:
                ahead = [[a - b for a, b in zip(*(read[p]["accuracy"][str(count)] for p in ("default", other)), strict=True)]
                         for count in (*COUNTS, POOL)]
                shown = [f"{100 * np.mean(d):+.1f}" + (f" ± {100 * interval(d):.1f}" if len(d) > 1 else "") for d in ahead]
                lines.append(f"| *default less {other}* | | {' | '.join(shown)} |")
        lines.append("")
    return "\n".join(lines)
