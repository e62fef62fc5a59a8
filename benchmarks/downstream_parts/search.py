"""Nearest images by code, against pixels, principal components and image features; speed; a graph; unknown classes.

An index of training images is asked with test images. Precision at 10 is the share of the ten nearest that have the query's
label, of faces the mean over factors. Goals: 2,000 queries a second against 100,000 codes of 64 numbers on one core, and 95 %
of the ten nearest by the graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from reparam.data.stream import to_batch
from reparam.downstream.approximate import Graph
from reparam.downstream.image_index import Space, embedded
from reparam.downstream.recognition import calibrate, vote
from reparam.downstream.search import Found, Index
from reparam.downstream.statistics import code_scale

from .models import FILES, MODELS, Set, trained

INDEXED, ASKED, K = 10_000, 1_000, 10
"""Training images, test images, and neighbours."""
MANY, DIMENSIONS = 100_000, 64
REFUSED = 0.9


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    found = {f"{name}-{preset}": lambda name=name, preset=preset: precision(Set(name, data), preset, work)
             for preset in MODELS for name in FILES}
    found |= {f"{name}-features": lambda name=name: with_features(Set(name, data), work) for name in FILES}
    found |= {f"{name}-unknown": lambda name=name: unknown(Set(name, data), work) for name in FILES if name != "faces"}
    return found | {"speed": lambda: speed(data, work), "worst": speed_normal}


def chosen(images: Set) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are indexed, and rows that ask."""
    train, _, test = images.rows
    return train[:INDEXED], np.random.default_rng(0).permutation(test)[:ASKED]


def precision_at(found: Found, labels: dict[str, np.ndarray], indexed: np.ndarray, asked: np.ndarray) -> dict:
    """The mean over queries and labels, with a 95 % interval over queries."""
    right = np.mean([y[indexed][found.rows] == y[asked][:, None] for y in labels.values()], axis=(0, 2))
    error = 1.96 * right.std(ddof=1) / len(right) ** 0.5
    return {"precision": round(float(right.mean()), 4), "interval": [round(float(right.mean() + s * error), 4) for s in (-1, 1)]}


def precision(images: Set, preset: str, work: Path) -> dict:
    """By codes; by pixels and as many of their principal components as a code has numbers, beside the default."""
    indexed, asked = chosen(images)
    codes, queries = (embedded(trained(images, preset, work), images.images[rows], ("codes",)) for rows in (indexed, asked))
    n = {"indexed": len(indexed), "asked": len(asked), "numbers": codes["codes"].shape[1]}
    score = {"codes": by(codes, queries, images, indexed, asked)}
    if preset == "default":
        x, q = (to_batch(images.images[rows]).flatten(1) for rows in (indexed, asked))
        x, q = x - x.mean(0), q - x.mean(0)
        components = torch.linalg.eigh(x.T @ x)[1][:, -n["numbers"]:]
        score["pixels"] = precision_at(Index.of(x).search(q, K), images.labels, indexed, asked)
        score["pca"] = precision_at(Index.of(x @ components).search(q @ components, K), images.labels, indexed, asked)
        score["pca, direction"] = by({"codes": x @ components}, {"codes": q @ components}, images, indexed, asked)
    return {**n, "precision at 10": score}


def by(vectors: dict[str, torch.Tensor], queries: dict[str, torch.Tensor], images: Set, indexed: np.ndarray, asked: np.ndarray) -> dict:
    space = Space.of(vectors)
    return precision_at(space.search(space.place(queries), K), images.labels, indexed, asked)


def with_features(images: Set, work: Path) -> dict:
    """By EfficientNet's features, and by these and codes of the default model."""
    indexed, asked = chosen(images)
    model = trained(images, "default", work)
    a, q = (embedded(model, images.images[rows], ("codes", "features")) for rows in (indexed, asked))
    return {"indexed": len(indexed), "asked": len(asked), "precision at 10": {
        "features": by({"features": a["features"]}, {"features": q["features"]}, images, indexed, asked),
        "both": by(a, q, images, indexed, asked)}}


def unknown(images: Set, work: Path) -> dict:
    """Each class left out of index and calibration in turn: the share of its test images that is refused, and the share of
    the other classes' test images that is kept and told right."""
    indexed, asked = chosen(images)
    model, y = trained(images, "default", work), images.labels["class"]
    codes, queries = (embedded(model, images.images[rows], ("codes",)) for rows in (indexed, asked))
    space = Space.of(codes)
    placed, vectors = space.place(queries), space.index.vectors
    refused, kept, right = [], [], []
    for c in np.unique(y[indexed]):
        others = np.flatnonzero(y[indexed] != c)
        known = vectors[torch.from_numpy(others)]
        threshold = calibrate(known, y[indexed][others], np.arange(len(others)), np.zeros(len(others), bool), K,
                              REFUSED).threshold
        answer, _, distance = vote(Index.of(known).search(placed, K), y[indexed][others])
        new, near = y[asked] == c, distance <= threshold
        refused.append(float(1 - near[new].mean()))
        kept.append(float(near[~new].mean()))
        right.append(float((answer == y[asked])[near & ~new].mean()))
    return {"indexed": len(indexed), "asked": len(asked), "nominal": REFUSED, "refused": round(float(np.mean(refused)), 4),
            "refused by class": [round(v, 3) for v in refused], "kept": round(float(np.mean(kept)), 4),
            "right of kept": round(float(np.mean(right)), 4)}


def speed(data: Path, work: Path) -> dict:
    """Queries a second, in processor time: exact and by the graph, among codes that the fitted prior of MNIST's model draws."""
    images = Set("mnist", data)
    model = trained(images, "default", work)
    queries = embedded(model, images.images[images.rows[2][:ASKED]], ("codes",))
    rows, scale = (torch.from_numpy(part).float() for part in code_scale(model))
    mean = {axis.index: axis.mean for axis in model.config.axes}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        drawn = model.sampler.codes(MANY).flatten(1)[:, rows.long()]
    codes = Space.of({"codes": (drawn - torch.tensor([mean[int(row)] for row in rows])) * scale})
    return {"vectors": MANY, "numbers": len(rows), **timed(codes.index, codes.place(queries))}


def speed_normal() -> dict:
    """The same among codes of N(0, I), in which a graph finds its way worst."""
    torch.manual_seed(0)
    codes = Space.of({"codes": torch.randn(MANY, DIMENSIONS)})
    return {"vectors": MANY, "numbers": DIMENSIONS, **timed(codes.index, codes.place({"codes": torch.randn(ASKED, DIMENSIONS)}))}


def timed(index: Index, queries: torch.Tensor) -> dict:
    index.search(queries[:100], K)
    began = time.process_time()
    exact = index.search(queries, K)
    exact_seconds = time.process_time() - began
    began = time.process_time()
    graph = Graph.of(index.vectors)
    built = time.process_time() - began
    began = time.process_time()
    near = graph.search(index.vectors, queries, K)
    seconds = time.process_time() - began
    return {"exact queries/s": round(len(queries) / exact_seconds), "graph queries/s": round(len(queries) / seconds),
            "graph recall at 10": round(recall(near, exact), 4), "graph built in s": round(built, 1)}


def recall(near: Found, exact: Found) -> float:
    """The share of the nearest that was found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact.rows, near.rows, strict=True)]))
