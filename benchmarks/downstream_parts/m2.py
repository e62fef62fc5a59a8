"""A hundred labels of MNIST: what a semi-supervised model infers, beside a probe on codes learned without labels.

Five draws of the labels, ten of each digit; all models five minutes of one core. Both learn from the same labels and see
the other training images without. (Kingma et al., 2014, arXiv:1406.5298, Table 1: M2 88.0 %, on top of M1 96.7 %)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reparam.data.stream import keep_labels
from reparam.downstream.classifier import learn_classifier
from reparam.functional.intervals import wilson
from reparam.pretrained.image_model import ImageModel

from .models import Set, trained

DRAWS = 5
LABELS = 100


def cells(data: Path, work: Path) -> dict[str, Callable[[], dict]]:
    return {f"draw-{i}": lambda i=i: draw(Set("mnist", data), work, i) for i in range(DRAWS)}


def draw(images: Set, work: Path, seed: int) -> dict:
    """Accuracies on the test images with one draw of the labels."""
    y, (rows, _, test) = images.labels["class"], images.rows
    labels = keep_labels(y, rows, LABELS, seed)
    name = f"m2-{seed}"
    m2 = trained(images, "m2", work, labels=labels, name=name, seed=seed)
    inferred = m2.class_probabilities(images.images[test]).argmax(1)
    default = trained(images, "default", work)
    told = {"m2": inferred == y[test], "probe": probed(default, images, labels) == y[test],
            "probe_of_m2_codes": probed(m2, images, labels) == y[test]}
    return {"labels": int((labels >= 0).sum()), "n": len(test), "model": json.loads((work / images.name / name / "cost.json")
                                                                               .read_text()),
            **{what: share(right) for what, right in told.items()}}


def probed(model: ImageModel, images: Set, labels: np.ndarray) -> np.ndarray:
    """Classes of the test images by a probe on codes of all training images and the labels that are known."""
    rows, _, test = images.rows
    probe = learn_classifier(model, images.images[rows], labels[rows], ())
    return probe.probe.classes[probe.probabilities(images.images[test]).argmax(1)]


def share(right: np.ndarray) -> dict:
    """An accuracy with its 95 % interval."""
    value = float(right.mean())
    return {"accuracy": value, "interval": wilson(value, len(right))}
