"""The statistics by which odd images are told: a table of names, and what each compares an image with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.stream import to_batch
from ..errors import UsageError
from ..errors import nearest as nearest_name
from ..functional.neighbours import nearest
from ..pretrained.image_model import ImageModel
from ..tensors import evenly
from .regret import regret
from .statistics import Array, Surprise, code_length, image_features, rate_and_distortion, residuals, scaled_codes

Images = npt.NDArray[np.uint8]
NEIGHBOUR = 5
MOST_CODES, MOST_FEATURES = 20_000, 5_000
"""Training images that codes and features are compared with."""
MOST_HELD_OUT = 4_000
"""Held-out images that are looked at, at most."""


@dataclass(frozen=True)
class Reference:
    """What statistics compare an image with."""

    model: ImageModel
    codes: Tensor
    """(m, d) of training images."""
    surprise: Surprise
    bound: float | None = None
    """Mean −ELBO of held-out images, nats; None where typicality is not measured."""
    features: Tensor | None = None
    """(m, d) of length 1, of training images; None where features are not measured."""

    @staticmethod
    def fit(model: ImageModel, training: Images, held_out: Images, names: Sequence[str]) -> Reference:
        """From training images and held-out ones (n, H, W, C), uint8, for the statistics of these names.

        Raises:
            UsageError: the packages of the feature network are missing.
        """
        x = to_batch(held_out)
        seen = training[evenly(len(training), MOST_FEATURES)]
        return Reference(
            model, scaled_codes(model, to_batch(training[evenly(len(training), MOST_CODES)])),
            Surprise.fit(residuals(model, x)),
            float(rate_and_distortion(model, x).sum(1).mean()) if "typicality" in names else None,
            feature_directions(to_batch(seen), model.device) if "features" in names else None)


class Look:
    """Some images (n, H, W, C), uint8, beside a reference; what several statistics need is measured once."""

    def __init__(self, reference: Reference, images: Images) -> None:
        self.reference, self.images, self.x = reference, images, to_batch(images)

    @cached_property
    def spent(self) -> Array:
        """(n, 2): rate and distortion, nats."""
        return rate_and_distortion(self.reference.model, self.x)

    @cached_property
    def bound(self) -> Array:
        """(n,) −ELBO, nats."""
        return self.spent.sum(1)

    @cached_property
    def where(self) -> Tensor:
        """(n, H, W): residual around each pixel in units of the usual one there."""
        return self.reference.surprise.map(residuals(self.reference.model, self.x))

    def typicality(self) -> Array:
        """(n,) |−ELBO − its mean among held-out images|, nats."""
        if self.reference.bound is None:
            raise ValueError("this reference was made without typicality")
        return np.abs(self.bound - self.reference.bound)

    def code_distance(self) -> Array:
        """(n,) to the fifth nearest training code."""
        return _distance(scaled_codes(self.reference.model, self.x), self.reference.codes)

    def feature_distance(self) -> Array:
        """(n,) from 0 to 2, to the features of the fifth nearest training image."""
        if self.reference.features is None:
            raise ValueError("this reference was made without features")
        return _distance(feature_directions(self.x, self.reference.model.device), self.reference.features)


def feature_directions(x: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """(n, d) image features of length 1: simple images have short ones, which would make them near to everything."""
    return F.normalize(image_features(x, device))


def _distance(vectors: Tensor, others: Tensor) -> Array:
    return nearest(vectors, others, k=min(NEIGHBOUR, len(others))).distance[:, -1].numpy()


@dataclass(frozen=True)
class Statistic:
    """A number of each image, such as typical images have typical values of."""

    measure: Callable[[Look], Array]
    """(n,)"""
    unit: str
    meaning: str
    """In a page's words, before "above 99 %"."""
    source: str = ""
    most: int = MOST_HELD_OUT
    """Held-out images that it is measured on, at most: fewer where it is slow."""


STATISTICS = {
    "rate": Statistic(lambda look: look.spent[:, 0], "nats", "nats in the code"),
    "distortion": Statistic(lambda look: look.spent[:, 1], "nats", "error of the reconstruction"),
    "corrected": Statistic(lambda look: look.bound - code_length(look.images), "nats", "−log p less the length of its file",
                           "Serrà et al., 2020, arXiv:1909.11480"),
    "code_distance": Statistic(Look.code_distance, "standard deviations", "distance from training codes"),
    "local": Statistic(lambda look: look.where.flatten(1).amax(1).double().numpy(), "usual errors", "largest local error"),
    "typicality": Statistic(Look.typicality, "nats", "distance of −log p from its usual value",
                            "Nalisnick et al., 2019, arXiv:1906.02994"),
    "regret": Statistic(lambda look: regret(look.reference.model, look.x), "nats",
                        "nats that a code fitted to it would save", "Xiao et al., 2020, arXiv:2003.02977", most=1_000),
    "features": Statistic(Look.feature_distance, "", "distance from training images in features",
                          "Bergman et al., 2020, arXiv:2002.10445"),
}
"""By name; the score of an image is the sum of −log densities of those that are chosen."""
DEFAULT = ("rate", "distortion", "corrected", "code_distance", "local")


def chosen(names: str) -> tuple[str, ...]:
    """The statistics that a text names, separated by commas.

    Raises:
        UsageError: one that there is not, or none.
    """
    given = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = next((name for name in given if name not in STATISTICS), None)
    if unknown is not None or not given:
        what = (f"no statistic is called {unknown!r}{nearest_name(unknown, STATISTICS)}" if unknown is not None else
                "no statistic is named")
        listed = ", ".join(f"{name} ({each.meaning})" for name, each in STATISTICS.items())
        raise UsageError(f"{what}; a score is made of one or several of: {listed}")
    return given


def measured(reference: Reference, names: Sequence[str], images: Images,
             report: Callable[[int, int], None] | None = None) -> tuple[Array, Tensor]:
    """Statistics (n, names) of images (n, H, W, C), uint8, and where each is odd (n, H, W); `report` is told how many of
    them are done.

    Raises:
        UsageError: a statistic that this model has not.
    """
    rows: list[Array] = []
    maps: list[Tensor] = []
    size = reference.model.at_once
    for begin in range(0, len(images), size):
        look = Look(reference, np.array(images[begin : begin + size]))
        rows.append(np.stack([STATISTICS[name].measure(look) for name in names], 1))
        maps.append(look.where)
        if report is not None:
            report(begin + len(look.images), len(images))
    return np.concatenate(rows), torch.cat(maps)
