"""Measuring a trained model on images: from a run's folder, or on other images, to figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.imageset import ImageSet
from ..data.stream import binarized, to_batch
from ..doctor.case import History, history_of
from ..errors import DataError, UsageError
from ..metrics import STANDARD, measure
from ..metrics.evaluation import FEWEST, Evaluation, FactorTable
from ..metrics.factors import match, of_columns, read_table
from ..metrics.figures import Figure
from ..pretrained.image_model import ImageModel
from ..progress import Attempts, Failure, Reporter
from ..tensors import evenly
from ..trainer.autotune import sharing
from .evaluations import evaluation_dict
from .folder import ARRAY, Run, open_data
from .records import read_metrics

MOST_SAMPLES = 10_000
"""Samples, and real images beside them, by default."""


@dataclass(frozen=True)
class Options:
    """How a model is measured, where the protocol leaves a choice."""

    features: str | None = None
    """Feature network: a part call or a file of weights; by default 'efficientnet' where its package is installed."""
    factors: str | None = None
    """A table of the factors that the images were drawn from; by default what the data say, as labels of several columns."""
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
            from ..features import get_features

            get_features(self.features)


def evaluate_arrays(model: ImageModel, images: ImageSet, chosen: np.ndarray, metrics: str, report: Reporter, *,
                    train_rows: np.ndarray | None = None, facts: dict[str, Any] | None = None,
                    options: Options = Options(), attempt: Attempts | None = None,
                    skip_unavailable: bool | None = None) -> list[Figure]:
    """Measures a model on the chosen ones of some images.

    `train_rows` are the rows of training images, of which as many are used as samples are drawn, evenly spaced; `facts` what
    the run says of its training; `attempt` and `skip_unavailable` are as for `metrics.measure`.
    """
    pictures = to_batch(images.images[chosen], model.device)
    x = binarized(pictures) if model.config.recipe.binarize else pictures
    rows = None if train_rows is None else train_rows[evenly(len(train_rows), min(len(chosen), options.n))]
    return measure(Evaluation(
        model.sampler, x, _labels(model, images, chosen), pictures=pictures,
        train_images=None if rows is None else to_batch(images.images[rows], model.device),
        train_labels=None if rows is None else _labels(model, images, rows),
        features=options.features or "efficientnet", n=options.n, factors=_factors(images, chosen, options.factors),
        facts=facts), metrics, report.say, attempt=attempt, skip_unavailable=skip_unavailable)


def _factors(images: ImageSet, rows: np.ndarray, table: str | None) -> FactorTable | None:
    """What the images of some rows were drawn from: by a table in a file, or as their source knows it."""
    if table is not None:
        return match(read_table(table), [images.names[i] for i in rows])
    if images.factors is None:
        return None
    return of_columns({name: column[rows] for name, column in images.factors.items()})


def _labels(model: ImageModel, images: ImageSet, rows: np.ndarray) -> torch.Tensor | None:
    return None if images.labels is None else torch.from_numpy(images.labels[rows]).to(model.device)


@dataclass(frozen=True)
class Evaluated:
    """The figures of a model, and what they were measured on."""

    figures: tuple[Figure, ...]
    kind: str
    """Of which images: 'test' or 'held-out' ones of the model's own data, or whose."""
    source: str
    fingerprint: str
    """Of the images."""
    own: bool
    """Whether they are of the data that the model was trained on."""
    history: History
    """Of the model's training, as far as it is known."""
    failures: tuple[Failure, ...] = ()
    """Metrics that failed."""
    unavailable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why metrics that do not apply were not measured, by the metric's name."""
    kept: Path | None = None
    """The file that the figures stand in."""

    def __getitem__(self, name: str) -> Figure:
        """The figure of that name.

        Raises:
            KeyError: it was not measured.
        """
        return {f.name: f for f in self.figures}[name]

    def to_dict(self) -> dict[str, Any]:
        """What `evaluate --json` prints."""
        more = {"failures": list(self.failures), "unavailable": dict(self.unavailable)}
        return evaluation_dict(self.figures) | {"measured_on": self.kind} | {k: v for k, v in more.items() if v}


def measured_rows(images: ImageSet) -> tuple[np.ndarray, str]:
    """The rows that a model is measured on, and of what kind they are: test images, or else held-out ones."""
    _, validation_set, test_set = images.split()
    return (test_set, "test") if len(test_set) else (validation_set, "held-out")


def own_images(run: Run, report: Reporter, other: str) -> ImageSet:
    """The images of a run's own data; `other` is the command that takes others.

    Raises:
        DataError: they are gone or changed, or were held in memory.
    """
    if run.source == ARRAY:
        raise DataError(f"the run in {run.folder} was trained on an array in memory: name images: {other}")
    images = open_data(run.source, run.options, report)
    if images.fingerprint != run.fingerprint:
        raise DataError(f"{run.source} changed since this model was trained; name images: {other}")
    return images


def measure_on_own(run: Run, model: ImageModel, metrics: str | None, report: Reporter, options: Options = Options(), *,
                   skip_unavailable: bool | None = None) -> Evaluated:
    """Measures a run's model on the test or held-out images of its own data; without `metrics`, the standard ones.

    Raises:
        DataError: the data are gone or changed, or a table of factors does not name the images.
        UsageError: a metric that this model or these images do not allow.
    """
    images = own_images(run, report, f"reparam evaluate {run.folder} DATA")
    rows, kind = measured_rows(images)
    attempt, facts = Attempts(report), run.facts.get("outcome")
    with sharing(report) as told:
        figures = evaluate_arrays(model, images, rows, metrics or STANDARD, told, train_rows=images.split()[0],
                                  facts=facts, options=options, attempt=attempt, skip_unavailable=skip_unavailable)
    records = read_metrics(run.folder / "metrics.jsonl")
    history = history_of(images, rows, records, facts) if facts else History()
    return Evaluated(tuple(figures), kind, run.source, run.fingerprint, True, history, tuple(attempt.failures),
                     attempt.unavailable)


def measure_on(model: ImageModel, images: ImageSet, metrics: str | None, report: Reporter, options: Options = Options(), *,
               facts: dict[str, Any] | None = None) -> Evaluated:
    """Measures a model on other images: those that they say are for tests, or all. Figures that need training images have
    none here."""
    rows = np.flatnonzero(images.test) if images.test.any() else np.arange(len(images.images))
    attempt = Attempts(report)
    with sharing(report) as told:
        figures = evaluate_arrays(model, images, rows, metrics or STANDARD, told, facts=facts, options=options,
                                  attempt=attempt)
    return Evaluated(tuple(figures), f"{images.source}'s", images.source, images.fingerprint, False, History(),
                     tuple(attempt.failures), attempt.unavailable)
