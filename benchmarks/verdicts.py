"""Is the verdict right? Small models with a known problem, and healthy ones, trained, measured and judged.

    python benchmarks/verdicts.py [CELL …]     trains the cells that have no results yet, or those named; one file each
    python benchmarks/verdicts.py --table      the tables of docs/evaluation.md from the recorded results, without training

A cell is a model of digits (scikit-learn's) or of drawn images, fully connected unless it says otherwise, on one thread. Its
results are what the verdict reads, its figures, history and recipe, so that `tests/test_verdict.py` judges them anew; the
verdict at the time stands beside them. Small models are stepped by AdamW, unless a cell says otherwise: rates too low and too
high are known of it. All cells take about six minutes of one core; each can be run alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reparam.doctor.case import History, as_made, history_of
from reparam.doctor.diagnosis import Diagnosis, diagnose
from reparam.files.writing import write_json
from reparam.nets import Decoder
from reparam.parts.recipe import Recipe
from reparam.parts.registry import decoder
from reparam.pretrained.image_model import load
from reparam.progress import Silent
from reparam.runs.evaluate import Options, evaluate_arrays
from reparam.runs.evaluations import figure_of
from reparam.runs.folder import open_data
from reparam.runs.records import read_metrics
from reparam.runs.train import train

RESULTS = Path(__file__).parent / "results" / "verdicts"
SMALL: dict[str, Any] = {"encoder": "mlp((128,))", "decoder": "mlp((128,))", "latent": "flat(8)", "threads": 1,
                         "precision": "float32", "steps": 1200, "optimizer": "adamw(lr=2e-3)"}
SIZES = (64, 300, 1797)
SEEDS = range(10)


@dataclass(frozen=True)
class Cell:
    """A model, and what a right verdict on it begins with."""

    right: str
    """A regular expression for the title."""
    why: str
    data: Callable[[], dict[str, np.ndarray]] | None = None
    """Arrays of an .npz; the digits by default."""
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    preset: str = "default"
    whole: bool = False
    """Whether the recipe is the preset's own, without the small networks."""
    remark: str = ""
    """A remark that must stand beside the verdict."""


class Dead(Decoder):
    """A decoder that does not look at its latent: one picture, which it learns."""

    def __init__(self, latent_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.picture = nn.Parameter(torch.zeros(out_shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.picture.expand(len(z), *self.picture.shape) + 0 * z.flatten(1).sum(1).view(-1, 1, 1, 1)


@contextlib.contextmanager
def dead_decoder() -> Generator[None]:
    """A region in which recipes may name it."""
    decoder("dead")(Dead)
    try:
        yield
    finally:
        del decoder.registered["dead"]


def digits(n: int = 1797, seed: int = 0) -> np.ndarray:
    from sklearn.datasets import load_digits

    images = (np.asarray(load_digits().images) * 255 / 16).round().astype(np.uint8)
    return images[np.random.default_rng(seed).permutation(len(images))[:n]]


def some_digits(n: int, seed: int = 0) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: {"images": digits(n, seed)}


def near_copies(distinct: int = 30, each: int = 60) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).normal(0, 4, (distinct * each, 8, 8))
    return {"images": np.clip(np.repeat(digits(distinct).astype(float), each, 0) + noise, 0, 255).astype(np.uint8)}


def tested_on(change: Callable[[np.ndarray], np.ndarray], known: int = 1500) -> Callable[[], dict[str, np.ndarray]]:
    def make() -> dict[str, np.ndarray]:
        x = digits()
        return {"x_train": x[:known], "y_train": np.zeros(known, np.int64), "x_test": change(x),
                "y_test": np.zeros(len(change(x)), np.int64)}

    return make


def noise() -> dict[str, np.ndarray]:
    return {"images": np.random.default_rng(0).integers(0, 256, (1500, 8, 8), dtype=np.uint8)}


def constant() -> dict[str, np.ndarray]:
    """One grey everywhere, but for a pixel in each that is a level off, so that the images are not exact copies."""
    images, rng = np.full((400, 8, 8), 120, np.uint8), np.random.default_rng(0)
    images[np.arange(400), rng.integers(0, 8, 400), rng.integers(0, 8, 400)] += 1
    return {"images": images}


def faint_blobs(n: int = 3000, side: int = 12) -> dict[str, np.ndarray]:
    """A blob somewhere, drowned in noise: reconstructions can gain less than half a dB, and the codes say where it is."""
    rng = np.random.default_rng(1)
    at, grid = rng.uniform(2, side - 2, (n, 2)), np.mgrid[:side, :side]
    blob = np.exp(-((grid[0] - at[:, 0, None, None]) ** 2 + (grid[1] - at[:, 1, None, None]) ** 2) / 4)
    images = 128 + 70 * (blob - blob.mean()) + rng.normal(0, 45, blob.shape)
    return {"images": np.clip(images, 0, 255).astype(np.uint8)}


def one_factor(n: int = 1500, side: int = 12) -> dict[str, np.ndarray]:
    """A soft bar whose angle is all that changes."""
    angle = np.random.default_rng(0).uniform(0, np.pi, (n, 1, 1))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return {"images": (255 * np.exp(-(x * np.sin(angle) - y * np.cos(angle)) ** 2 / 2)).astype(np.uint8)}


def icons(n: int = 1500, side: int = 12) -> dict[str, np.ndarray]:
    """A few pictograms in a few greys, of which many images are the same by nature."""
    rng = np.random.default_rng(0)
    shapes = (rng.random((60, side // 2, side // 2)) < 0.5).repeat(2, 1).repeat(2, 2)
    return {"images": (shapes[rng.integers(0, 60, n)] * rng.choice([120, 180, 240], (n, 1, 1))).astype(np.uint8)}


HEALTHY = "^healthy$"
CELLS: dict[str, Cell] = {
    "10 steps": Cell("undertrained", "", recipe={"steps": 10}),
    "20 steps": Cell("undertrained", "", recipe={"steps": 20}),
    "60 steps": Cell("undertrained", "", recipe={"steps": 60}),
    "lr 1e-7": Cell("undertrained", "a learning rate too low to learn", recipe={"optimizer": "adamw(lr=1e-7)"}),
    "lr 1e-5": Cell("undertrained", "a learning rate too low to learn", recipe={"optimizer": "adamw(lr=1e-5)"}),
    "lr 1": Cell("unstable", "a learning rate too high", recipe={"optimizer": "adamw(lr=1.0)"}),
    "lr 10": Cell("unstable", "a learning rate too high", recipe={"optimizer": "adamw(lr=10.0)"}),
    "Muon": Cell(HEALTHY, "the default optimizer", recipe={"optimizer": "muon(lr=0.02)", "steps": 400}),
    "Muon, 10 steps": Cell("undertrained", "", recipe={"optimizer": "muon(lr=0.02)", "steps": 10}),
    "Muon, lr 1": Cell("unstable", "a learning rate too high", recipe={"optimizer": "muon(lr=1.0)"}),
    "still steep": Cell("undertrained", "the held-out curve falls fast to its end",
                        recipe={"optimizer": "adamw(lr=1e-4)", "schedule": "constant", "steps": 800}),
    "blurred": Cell(HEALTHY, "early, and no problem", recipe={"steps": 150}, remark="early"),
    "beta 30": Cell("posterior collapse", "the KL weighs too much", recipe={"objective": "nll + 30*kl"}),
    "no KL": Cell("prior mismatch", "nothing draws codes to the prior",
                  recipe={"objective": "nll", "fitted_prior": "none"}),
    "no KL, another seed": Cell("prior mismatch", "", recipe={"objective": "nll", "fitted_prior": "none", "seed": 1}),
    "no KL, fitted prior": Cell(HEALTHY, "samples start from the prior that was fitted to the codes",
                                recipe={"objective": "nll"}),
    "sigma 1e-3": Cell("likelihood scale", "far below the residual", recipe={"likelihood": "gaussian(0.001)"}),
    "sigma 1e-6": Cell("likelihood scale", "far below the residual", recipe={"likelihood": "gaussian(1e-6)"}),
    "sigma 1": Cell("likelihood scale|posterior collapse", "far above it", recipe={"likelihood": "gaussian(1.0)"}),
    "40 images": Cell("overfitted", "4,000 steps on 40 images", some_digits(40, 1), {"steps": 4000}),
    "near copies": Cell("few distinct images", "60 near copies of each of 30 digits", near_copies),
    "test is training": Cell(HEALTHY, "exact copies of test images are left out of training", tested_on(lambda x: x[:500])),
    "test is nearly training": Cell("tested on training images", "a level brighter", tested_on(lambda x: x[:500] // 2 * 2 + 1)),
    "test shifted": Cell("test images unlike", "inverted digits", tested_on(lambda x: 255 - x[1500:])),
    "test honest": Cell(HEALTHY, "the same with a fair test", tested_on(lambda x: x[1500:])),
    "dead decoder": Cell("posterior collapse", "", recipe={"decoder": "dead"}),
    "dead decoder, no KL": Cell("posterior collapse", "units stay active, for nothing",
                                recipe={"decoder": "dead", "objective": "nll"}),
    "noise": Cell("posterior collapse", "nothing to put in a code", noise),
    "constant": Cell("few distinct images", "all the same", constant, {"steps": 600}),
    "two codes": Cell("codebook collapse", "the encoder held too fast to codes that are not revived",
                      recipe={"posterior": "vq(256, decay=0.9, revive=0.0)", "prior": "autoregressive",
                              "objective": "nll + kl + 1000*commitment", "steps": 600}),
    "vq": Cell(HEALTHY, "", recipe={"latent": "flat(16)", "posterior": "vq(64, dim=4)", "prior": "autoregressive",
                                    "objective": "nll + kl + 10*commitment"}),
    "flow prior": Cell(HEALTHY, "", recipe={"prior": "flow"}),
    "mixture prior": Cell(HEALTHY, "", recipe={"prior": "mixture(20)"}),
    "bernoulli": Cell(HEALTHY, "", recipe={"likelihood": "bernoulli", "binarize": True}),
    "default preset": Cell(HEALTHY, "", recipe={"steps": 250, "threads": 1, "precision": "float32"}, whole=True),
    "faint blobs": Cell(HEALTHY, "mostly noise, and the codes say where the blob is", faint_blobs,
                        {"latent": "flat(4)", "steps": 2000}),
    "one factor": Cell(HEALTHY, "", one_factor, {"latent": "flat(4)"}),
    "icons": Cell("^healthy$|few distinct images", "they repeat by nature", icons),
} | {f"healthy, {n} digits, seed {seed}": Cell(HEALTHY, "", some_digits(n, seed),
                                               {"seed": seed, "steps": {64: 150, 300: 600, 1797: 1200}[n]})
     for n in SIZES for seed in SEEDS}


def file_of(name: str) -> Path:
    return RESULTS / (re.sub(r"[^a-z0-9]+", "-", name.lower()) + ".json")


def record(name: str) -> dict[str, Any]:
    """Trains a cell's model, and returns what its verdict was reached from."""
    cell, began = CELLS[name], time.process_time()
    with tempfile.TemporaryDirectory() as scratch, dead_decoder():
        source: str | Path = "digits"
        if cell.data is not None:
            source = Path(scratch) / "images.npz"
            np.savez(source, **cell.data())  # pyright: ignore[reportArgumentType]
        run = train(source, preset=cell.preset, out=Path(scratch) / "run", device="cpu",
                    **(cell.recipe if cell.whole else SMALL | cell.recipe))
        evaluation = json.loads((run.folder / "evaluation.json").read_text())
        images = open_data(run.source, run.options, Silent())
        _, validation, test = images.split()
        history = history_of(images, test if len(test) else validation, read_metrics(run.folder / "metrics.jsonl"),
                             run.facts["outcome"])
        model = load(run.folder, device="cpu")
        samples = evaluate_arrays(model, images, validation, "fd", Silent(), options=Options("wavelets")) \
            if len(validation) >= 20 else []
    return {"verdict": evaluation["verdict"], "figures": evaluation["metrics"], "samples": [f.to_dict() for f in samples], "history": asdict(history),
            "recipe": as_made(model.config).to_dict(), "cpu_seconds": round(time.process_time() - began, 1)}


def judge(recorded: dict[str, Any]) -> Diagnosis:
    """The diagnosis of a recorded model."""
    figures = [figure_of(f) for f in recorded["figures"]]
    return diagnose(figures, History(**recorded["history"]), Recipe(**recorded["recipe"]))


def recorded(name: str) -> dict[str, Any]:
    return json.loads(file_of(name).read_text())


POSSIBLE = ("unstable", "undertrained", "few distinct images", "posterior collapse", "overfitted", "prior mismatch")
"""Illnesses that the figures of such a model could show."""


def false_alarms() -> dict[tuple[str, int], tuple[int, int]]:
    """For each problem and number of digits: how many healthy models are said to have it, and among how many it was looked
    for. An AUC of codes and prior takes 60 held-out images."""
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    for n in SIZES:
        healthy = [recorded(f"healthy, {n} digits, seed {seed}") for seed in SEEDS]
        found = [{f.title for f in judge(each).problems} for each in healthy]
        compared = sum(any(f["name"] == "prior_auc" for f in each["figures"]) for each in healthy)
        for title in POSSIBLE:
            counts[title, n] = sum(title in titles for titles in found), compared if title == "prior mismatch" else len(found)
    return counts


def table() -> list[str]:
    """The lines of the two tables of docs/evaluation.md: the verdict on each model, and false alarms."""
    lines = ["| model | verdict | also |", "|---|---|---|"]
    for name, cell in CELLS.items():
        if not name.startswith("healthy, "):
            v = judge(recorded(name))
            also = ", ".join(dict.fromkeys(f.title for f in (*v.problems[1:], *v.remarks))) or "–"
            lines.append(f"| {name}{f' ({cell.why})' if cell.why else ''} | {v.title} | {also} |")
    rates = false_alarms()
    lines += ["| healthy models with a false finding: | " + " | ".join(f"{n:,} digits" for n in SIZES) + " |", "|---" * (1 + len(SIZES)) + "|"]
    return lines + [f"| {title} | " + " | ".join("{} of {}".format(*rates[title, n]) for n in SIZES) + " |"
                    for title in dict.fromkeys(title for title, _ in rates)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", choices=[[], *CELLS])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table()))
    warnings.simplefilter("ignore")
    for name in [] if given.table else given.cells or [n for n in CELLS if not file_of(n).exists()]:
        write_json(file_of(name), record(name))
        print(name, judge(recorded(name)).title, flush=True)


if __name__ == "__main__":
    main()
