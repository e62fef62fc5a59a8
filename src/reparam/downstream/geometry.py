"""Geometry of codes: metrics that say how far apart two codes are, and shortest paths by them.

Two metrics: what a step changes in the decoder's image, and how many images' posteriors it crosses. A path is a curve
between two codes of which only the middle is free; among all curves the shortest minimises the energy ∫ |γ'(t)|² dt too,
and has constant speed where it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..data.stream import to_batch
from ..distributions.base import Distribution
from ..distributions.gaussian import Gaussian, Laplace
from ..errors import ModelFileError, UsageError
from ..models.centroids import Centroids, apart, centroids_of
from ..models.codes import posterior_moments
from ..pretrained.image_model import ImageModel
from .saved import read_fitted, save_fitted

KNOTS = 12
"""Free points of a curve; between them it is a cubic spline."""
STEPS = 64
"""Straight pieces into which a curve is cut while it is shortened."""
LEG = 12
"""Points of a leg of a way through several codes, between which the usual way goes."""
CENTROIDS = 500
WIDTH = 0.5
"""Of kernels around centroids, in distances from one centroid to the next."""
OUTSIDE = 0.01
"""Share of what an ordinary image has near it that is left far from all: paths there are ten times as long."""


class Metric(ABC):
    """Lengths of movements of codes, which are rows of numbers."""

    @abstractmethod
    def squared_speed(self, z: Float[Tensor, "n d"], v: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """vᵀ G(z) v."""

    def steps(self, path: Float[Tensor, "n d"]) -> Float[Tensor, "n-1"]:
        """Squared lengths of the steps of a path; here each is judged at its middle."""
        return self.squared_speed((path[1:] + path[:-1]) / 2, path[1:] - path[:-1])

    def length(self, path: Float[Tensor, "n d"]) -> float:
        """Of a path of many short steps."""
        with torch.no_grad():
            return float(self.steps(path).sqrt().sum())


class PulledBack(Metric):
    """G(z) = J(z)ᵀ J(z), J being the Jacobian of what a decoder gives, f(z): a length is how far f(z) travels.

    (Arvanitidis et al., 2018, arXiv:1710.11379)
    """

    def __init__(self, output: Callable[[Float[Tensor, "n d"]], Float[Tensor, "n f"]]) -> None:
        self.output = output

    def squared_speed(self, z: Float[Tensor, "n d"], v: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """‖J v‖²; the product is that of the transpose of Jᵀ, so that no Jacobian is made."""
        with sdpa_kernel(SDPBackend.MATH):  # the others cannot be differentiated twice
            out, back, *_ = torch.func.vjp(self.output, z)
            _, forward, *_ = torch.func.vjp(lambda u: back(u)[0], torch.zeros_like(out))
            return forward(v)[0].square().sum(1)

    def steps(self, path: Float[Tensor, "n d"]) -> Float[Tensor, "n-1"]:
        """The squares of what changes from one point to the next, for which no Jacobian is needed."""
        x = self.output(path)
        return (x[1:] - x[:-1]).square().sum(1)


class NearImages(Metric):
    """G(z)⁻¹ = Σ_i ω_i(z) Σ_i + λ Σ̄: steps count in standard deviations of the posteriors nearby, and for more where fewer
    images' codes are near.

    As the metric of Chadebec et al. (2022, arXiv:2105.00026), with the covariances Σ_i and kernels ω_i of the
    posteriors of a trained model in place of learned ones (Chadebec & Allassonnière, 2022, arXiv:2209.07370), and their mean
    Σ̄ in place of the identity, so that the units of codes do not matter.
    """

    def __init__(self, centroids: Centroids, outside: float) -> None:
        self.centroids, self.outside = centroids, outside

    def squared_speed(self, z: Float[Tensor, "n d"], v: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        near = self.centroids.to(z)
        inverse = near.log_weights(z).exp() @ near.variances + self.outside * near.variances.mean(0)
        return (v.square() / inverse).sum(1)


@dataclass(frozen=True)
class Shortest:
    """A path between two codes."""

    codes: Float[Tensor, "n *d"]
    """At equal distances, both ends included."""
    length: float
    begun_with: float
    """Length of the path that it was made from."""


def shortest(metric: Metric, begin: Callable[[float], Float[Tensor, "d"]], steps: int, *,
             place: Callable[[Tensor], Tensor] = lambda z: z, free: Float[Tensor, "d"] | float = 1.0) -> Shortest:
    """The shortest path that is found from the path `begin`, t in [0, 1] → a code, whose ends stay; never longer than it.

    γ(t) = begin(t) + s(t), s a cubic spline that is 0 at both ends, brought to where codes can lie by `place`. Dimensions in
    which `free` is 0 stay as they begin.
    """
    times = np.linspace(0, 1, STEPS + 1)
    fixed, bumps = torch.stack([begin(t) for t in times]), _bumps(times, begin(0.0))
    knots = torch.zeros(KNOTS, fixed.shape[1], dtype=fixed.dtype, device=fixed.device, requires_grad=True)
    scale = metric.length(fixed) ** 2 + 1e-12

    def energy() -> Tensor:
        return STEPS * metric.steps(place(fixed + bumps @ knots * free)).sum() / scale

    _minimise(energy, knots)
    bent = place(fixed + bumps @ knots.detach() * free)
    lengths = metric.length(fixed), metric.length(bent)
    if not lengths[1] < lengths[0]:
        knots, bent = torch.zeros_like(knots), fixed
    with torch.no_grad():
        gone = np.concatenate([[0], metric.steps(bent).sqrt().cumsum(0).cpu().numpy()])
        at = np.interp(np.linspace(0, gone[-1], steps), gone, times)
        codes = place(torch.stack([begin(t) for t in at]) + _bumps(at, fixed) @ knots * free)
    return Shortest(codes, min(lengths), lengths[0])


def _bumps(times: np.ndarray, like: Tensor) -> Float[Tensor, "n k"]:
    """The natural cubic splines that are 1 at one of the inner knots and 0 at all others."""
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.linspace(0, 1, KNOTS + 2), np.eye(KNOTS + 2)[:, 1:-1], bc_type="natural")
    return torch.from_numpy(spline(times)).to(like)


def _minimise(energy: Callable[[], Tensor], free: Tensor) -> None:
    optimizer = torch.optim.LBFGS([free], max_iter=150, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=20,
                                  line_search_fn="strong_wolfe")

    def closure() -> float:
        value = energy()
        free.grad, = torch.autograd.grad(value, [free])
        return float(value.detach())

    optimizer.step(closure)


def decoder_metric(model: ImageModel) -> PulledBack:
    """Of a model's decoder: lengths in pixel values, from 0 to 1, of the image's mean, and of its standard deviation where
    that differs from pixel to pixel."""

    def output(z: Tensor) -> Tensor:
        px = model.network.decode(z.unflatten(1, model.latent_shape)[None])
        return torch.cat([t[0].flatten(1) for t in (px.mean, *_deviation(px))], 1)

    return PulledBack(output)


def _deviation(px: Distribution) -> tuple[Tensor, ...]:
    match px:
        case Gaussian():
            return ((0.5 * px.log_var).exp(),)
        case Laplace():
            return (2**0.5 * px.log_scale.exp(),)
        case _:
            return ()


def shortest_path(model: ImageModel, ends: Float[Tensor, "2 *d"], steps: int, metric: Metric | None = None) -> Shortest:
    """The shortest path from one code to another by a metric, the decoder's by default, begun with that of `interpolate`.

    Raises:
        UsageError: codes between which there is nothing.
    """
    latent, metric = model.network.latent, metric or decoder_metric(model)
    if latent.space.kind not in ("real", "sphere"):
        raise UsageError("shortest paths bend through what lies between two codes, and between this model's codes, bits or "
                         "whole numbers, nothing lies: leave out --geodesic")
    shape, ends = model.latent_shape, ends.to(model.device).clone()  # out of inference mode
    free = torch.ones(shape, device=model.device)
    free[shape[0] - latent.classes :] = 0  # a class goes evenly from one to the other

    def place(z: Tensor) -> Tensor:
        if latent.space.kind == "real":
            return z
        return torch.nn.functional.normalize(z.unflatten(1, shape), dim=1).flatten(1)

    found = shortest(metric, lambda t: model.between(ends, t).flatten(), steps, place=place, free=free.flatten())
    return Shortest(found.codes.unflatten(1, shape).cpu(), found.length, found.begun_with)


def shortest_legs(model: ImageModel, stops: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """The shortest way through codes (k, *latent) by the decoder's metric, leg by leg: points (m, *latent), as far apart in
    time on all legs. The first leg has both its ends, the others their last.

    Raises:
        UsageError: fewer than two codes, or codes between which there is nothing.
    """
    if len(stops) < 2:
        raise UsageError("a way leads through two codes at least")
    for i in range(len(stops) - 1):
        leg = shortest_path(model, torch.from_numpy(stops[i : i + 2]), LEG).codes.detach().numpy()
        yield leg[min(i, 1) :]


@torch.no_grad()
def fit_near_images(model: ImageModel, images: np.ndarray, k: int = CENTROIDS) -> NearImages:
    """The metric of the posteriors of k of some images (n, H, W, C) uint8, which stand for all.

    Raises:
        UsageError: a model whose posterior has no variance that an image's code says.
    """
    size = model.at_once
    moments = [posterior_moments(model.vae, to_batch(images[i : i + size], model.device))
               for i in range(0, len(images), size)]
    means, variances = (torch.cat(each).cpu() for each in zip(*moments, strict=True))
    chosen = centroids_of(means, variances, k)
    centroids = Centroids(*chosen, width=WIDTH * float(apart(*chosen).median()))
    return NearImages(centroids, OUTSIDE * float(centroids.log_weights(means).exp().sum(1).median()))


class Facts(TypedDict):
    """What is kept beside the centroids."""

    width: float
    outside: float


FILE, WHAT = "geometry.safetensors", "a metric over codes"


def save_near_images(folder: str | Path, model: ImageModel, metric: NearImages) -> None:
    """Keeps the metric beside a model."""
    kept = metric.centroids
    save_fitted(Path(folder) / FILE, WHAT, model, {"means": kept.means.numpy(), "variances": kept.variances.numpy()},
                Facts(width=kept.width, outside=metric.outside))


def read_near_images(folder: str | Path, model: ImageModel) -> NearImages:
    """The metric that is kept beside a model.

    Raises:
        FileNotFoundError: none is.
        ModelFileError: it cannot be read, or is of another model.
    """
    path = Path(folder) / FILE
    again = f"reparam interpolate RUN --geodesic --metric codes, after removing {path}"
    arrays, facts = read_fitted(path, WHAT, model, Facts, again=again)
    means, variances = (torch.from_numpy(arrays.get(name, np.zeros(0))).float() for name in ("means", "variances"))
    right = means.dim() == 2 and means.shape == variances.shape and means[0].numel() == int(np.prod(model.latent_shape))
    if not right or not bool((variances > 0).all()) or not min(facts["width"], facts["outside"]) > 0:
        raise ModelFileError(f"{path} does not hold {WHAT} of this model. Write it again with: {again}")
    return NearImages(Centroids(means, variances, facts["width"]), facts["outside"])
