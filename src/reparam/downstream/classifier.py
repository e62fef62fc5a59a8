"""A model's classifier: its codes, a probe that was learned from them, and the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F

from ..data.stream import to_batch
from ..errors import ModelFileError, UsageError
from ..pretrained.image_model import ImageModel
from .classify import BLEND, KINDS, Probe, fit_probe
from .saved import read_fitted, save_fitted

Array = npt.NDArray[Any]
Images = npt.NDArray[np.uint8]
FILE = "classifier.safetensors"
"""Beside the model."""
WHAT = "a classifier"
MOST_NUMBERS = 1_024
"""Of a code; longer ones are made shorter before a classifier sees them."""
UNLABELLED = 5_000
"""Images without a label whose codes help to tell how codes spread."""


def code_vectors(model: ImageModel, images: Images) -> Array:
    """Posterior means of images (n, H, W, C) as a classifier sees them, (n, d); `about_codes` says how."""
    size = 4 * model.at_once
    return np.concatenate([_vectors(model, images[i : i + size]) for i in range(0, len(images), size)])


def _vectors(model: ImageModel, images: Images) -> Array:
    z, shape = model.encode_pixels(to_batch(np.array(images))), model.latent_shape
    if z[0].numel() <= MOST_NUMBERS:
        return z.flatten(1).double().numpy()
    if len(shape) == 3:
        return F.adaptive_avg_pool2d(z.float(), _pooled(shape)).flatten(1).double().numpy()
    return z.flatten(1)[:, [axis.index for axis in model.config.axes]].double().numpy()


def _pooled(shape: tuple[int, ...]) -> tuple[int, int]:
    """The finest grid, each side a whole part of the map's, on which a code has at most `MOST_NUMBERS` numbers."""
    c, h, w = shape
    part = next((p for p in range(2, max(h, w)) if c * -(-h // p) * -(-w // p) <= MOST_NUMBERS), max(h, w))
    return -(-h // part), -(-w // part)


def about_codes(model: ImageModel) -> str:
    """What `code_vectors` are, in words."""
    shape = model.latent_shape
    size = "×".join(map(str, shape))
    if int(np.prod(shape)) <= MOST_NUMBERS:
        return f"posterior means, {size} numbers of each image"
    if len(shape) == 3:
        h, w = _pooled(shape)
        return f"posterior means, {size}, averaged to maps of {h}×{w}"
    return f"posterior means of the {len(model.config.axes)} most informative of {size} latents"


class Facts(TypedDict):
    """What a saved classifier says besides its arrays."""

    kind: str
    classes: list[str]
    cross_validated: dict[str, float]
    learned_from: int


@dataclass(frozen=True)
class Classifier:
    """A model's classifier."""

    model: ImageModel
    probe: Probe
    classes: tuple[str, ...]
    """Names of the columns of `probabilities`."""
    learned_from: int
    """Labelled images."""

    def probabilities(self, images: Images) -> Array:
        """(n, classes) of images (n, H, W, C) uint8, as the model's are; rows add up to 1."""
        return self.probe.probabilities(code_vectors(self.model, images))

    def save(self, path: Path) -> None:
        """Raises ReparamError when the disk is full; what stood there is as it was."""
        facts: Facts = {"kind": self.probe.kind, "classes": list(self.classes),
                        "cross_validated": dict(self.probe.cross_validated), "learned_from": self.learned_from}
        save_fitted(path, WHAT, self.model, self.probe.arrays, facts)


def learn_classifier(model: ImageModel, images: Images, labels: npt.NDArray[np.int64], classes: Sequence[str], *,
                     seed: int = 0) -> Classifier:
    """Learns from images (n, H, W, C) with labels (n,), −1 for none; `classes` are the names of labels, or none.

    Raises:
        UsageError: a GAN, or labelled images of fewer than two classes.
    """
    _ = model.vae  # which tells a GAN
    known = np.flatnonzero(labels >= 0)
    others = np.flatnonzero(labels < 0)
    others = others[np.linspace(0, len(others) - 1, min(len(others), UNLABELLED)).astype(int)] if len(others) else others
    rows = np.sort(np.concatenate([known, others]))
    if len(np.unique(labels[known])) < 2:
        raise UsageError(f"a classifier takes labelled images of at least two classes; the {len(images):,} images to learn "
                         f"from have {len(np.unique(labels[known]))}")
    probe = fit_probe(code_vectors(model, images[rows]), labels[rows], seed=seed)
    present: list[int] = probe.classes.tolist()
    names = tuple([classes[i] if classes else str(i) for i in present])
    return Classifier(model, probe, names, len(known))


def read_classifier(path: Path, model: ImageModel, *, again: str) -> Classifier:
    """The classifier that was saved for this model; `again` is the command that learns it.

    Raises:
        FileNotFoundError: there is none.
        ModelFileError: it cannot be read, or was learned from another model's codes.
    """
    arrays, facts = read_fitted(path, WHAT, model, Facts, again=again)
    probe = Probe(facts["kind"], arrays, facts["cross_validated"])
    found = Classifier(model, probe, tuple(facts["classes"]), facts["learned_from"])
    try:
        c, h, w = model.config.image_shape
        p = found.probabilities(np.zeros((1, h, w, c), np.uint8)) if probe.kind in (*KINDS, BLEND) else np.zeros(0)
        fits = p.shape == (1, len(found.classes))
    except (KeyError, ValueError, IndexError, UsageError, RuntimeError, TypeError):
        fits = False
    if not fits:
        raise ModelFileError(f"{path} holds no classifier of this model's codes. Write it again with: {again}")
    return found
