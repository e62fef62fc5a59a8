"""Measuring a trained model on images: from a run's folder, or on arrays, to figures and `evaluation.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .attempts import Attempts
from .data import ImageSet
from .data.members import members
from .data.reading import BYTES_PER_PIXEL
from .data.stream import binarized, evenly, to_batch
from .diagnose import Verdict
from .errors import DataError, ModelFileError, UsageError
from .files import write_json
from .generate import ImageModel, load
from .metrics import PROTOCOL, STANDARD, Evaluation, Figure, measure
from .metrics.evaluation import FEWEST
from .metrics.tables import match, read_table
from .reporting import Reporter
from .run import DataOptions, Run, open_data

MOST_SAMPLES = 10_000
"""Samples, and real images beside them, by default."""


@dataclass(frozen=True)
class Options:
    """How a model is measured, where the protocol leaves a choice."""

    features: str | None = None
    """Feature network: a part call or a file of weights; by default 'efficientnet' where its package is installed."""
    factors: str | None = None
    """A table of the factors that the images were drawn from."""
    n: int = MOST_SAMPLES
    """Samples and real images in a comparison of sets, at most."""

    def check(self) -> None:
        """Loads what is named, so that a wrong name is told before anything is measured.

        Raises:
            UsageError: too few samples, unknown features, or a missing package.
        """
        if self.n < FEWEST:
            raise UsageError(f"-n must be at least {FEWEST}, and 2048 for figures to be trusted; got {self.n}")
        if self.features is not None:
            from .features import get_features

            get_features(self.features)


def evaluate_arrays(model: ImageModel, images: ImageSet, chosen: np.ndarray, metrics: str, report: Reporter, *,
                    known: np.ndarray | None = None, facts: dict[str, Any] | None = None,
                    options: Options = Options(),
                    table_of: DataOptions | None = None, attempt: Attempts | None = None) -> list[Figure]:
    """Measures a model on the chosen ones of some images.

    `known` are the rows of training images, of which as many are used as samples are drawn, evenly spaced; `facts` what
    the run says of its training; `table_of` how the images were read, which the names in a table of factors depend on;
    `attempt` lists metrics that fail.
    """
    pictures = to_batch(images.images[chosen], model.device)
    x = binarized(pictures) if model.config.recipe.binarize else pictures
    table = None
    if options.factors is not None:
        names = image_names(images, table_of or DataOptions())
        table = match(read_table(options.factors), [names[i] for i in chosen])
    rows = None if known is None else known[evenly(len(known), min(len(chosen), options.n))]
    return measure(Evaluation(
        model.network, x, _labels(model, images, chosen), pictures=pictures,
        known=None if rows is None else to_batch(images.images[rows], model.device),
        known_y=None if rows is None else _labels(model, images, rows),
        features=options.features or "efficientnet", n=options.n, factors=table, facts=facts), metrics, report.say,
        attempt=attempt)


def _labels(model: ImageModel, images: ImageSet, rows: np.ndarray) -> torch.Tensor | None:
    return None if images.labels is None else torch.from_numpy(images.labels[rows]).to(model.device)


def image_names(images: ImageSet, options: DataOptions) -> list[str]:
    """The name of each image: a file's path in its folder or archive, or an array's row.

    Raises:
        DataError: files came or went since the images were read.
    """
    path = Path(images.source).expanduser()
    if not path.exists() or path.suffix.lower() in (".npy", ".npz"):
        return [str(i) for i in range(len(images.images))]
    with members(path, BYTES_PER_PIXEL * options.max_pixels) as found:
        names = sorted(set(found.names) - {each.name for each in images.skipped})
    if len(names) != len(images.images):
        raise DataError(f"{images.source} holds {len(names)} images and {len(images.images)} were read: it changed "
                        "since; run the command again")
    return names


def write_evaluation(run: Run, figures: list[Figure], verdict: Verdict, kind: str) -> None:
    """Writes `evaluation.json`."""
    write_json(run.folder / "evaluation.json", evaluation_dict(figures) | verdict.to_dict() | {"measured_on": kind})


def evaluation_dict(figures: Sequence[Figure]) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "metrics": [f.to_dict() for f in figures]}


def evaluate_run(folder: str, data: str | None, metrics: str | None, device: str, report: Reporter,
                 options: Options = Options()) -> tuple[list[Figure], str]:
    """Measures the model in `folder` on `data`, or on the test or held-out images of its own data.

    Returns the figures and what they were measured on. Without `metrics`, the standard ones, and with a table of factors
    `factors` too. Figures that need training images are of the run's own data only.

    Raises:
        ModelFileError: no model there.
        DataError: the run's own data are gone or changed, or a table of factors does not name the images.
        UsageError: a metric that this model or these images do not allow, or wrong options.
    """
    options.check()
    model = load(folder, device=device)
    wanted = metrics or STANDARD
    if data is not None:
        images = open_for(model, data, report)
        chosen = np.flatnonzero(images.test) if images.test.any() else np.arange(len(images.images))
        figures = evaluate_arrays(model, images, chosen, wanted, report, facts=_facts(folder), options=options,
                                  table_of=_reading(model))
        return figures, f"{data}'s"
    run = Run.read(folder)
    images = open_data(run.source, run.options, report)
    if images.fingerprint != model.config.data.get("fingerprint"):
        raise DataError(f"{run.source} changed since this model was trained; name images to measure it on: reparam "
                        f"evaluate {folder} DATA")
    training_set, validation_set, test_set = images.split()
    measured, kind = (test_set, "test") if len(test_set) else (validation_set, "held-out")
    return evaluate_arrays(model, images, measured, wanted, report, known=training_set, facts=_facts(folder),
                           options=options, table_of=run.options), kind


def _facts(folder: str) -> dict[str, Any] | None:
    """What the run says of its training; None of a model without its run."""
    try:
        outcome = Run.read(folder).facts.get("outcome")
    except ModelFileError:
        return None
    return dict(outcome) if outcome else None


def _reading(model: ImageModel) -> DataOptions:
    """The options by which images are read as the model's training images were."""
    made = model.config.data
    _, h, w = model.config.image_shape
    bounds = made.get("value_range")
    return DataOptions(h if h == w else None, made.get("background", "white"), tuple(bounds) if bounds else None)


def open_for(model: ImageModel, data: str, report: Reporter) -> ImageSet:
    """Images of a source, read as the model's training images were.

    Raises:
        DataError: their shape does not fit the model.
    """
    c, h, w = model.config.image_shape
    images = open_data(data, _reading(model), report)
    if images.images.shape[1:] != (h, w, c):
        raise DataError(f"the images of {data} are {images.images.shape[2]}×{images.images.shape[1]} with "
                        f"{images.images.shape[3]} channels; the model takes {w}×{h} with {c}")
    return images
