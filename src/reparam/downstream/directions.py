"""Directions in the latent space: what an attribute changes, what codes vary along, and what the decoder shows most.

All work on flattened codes (n, d), and a step of 1 is the distance between the two groups of an attribute, or a standard
deviation of the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ModelFileError, UsageError
from ..functional.intervals import wilson
from ..pretrained.image_model import ImageModel
from ..text import counted
from .attributes import FEWEST, Attribute
from .saved import read_fitted, save_fitted

Array = npt.NDArray[Any]
FOLDS = 5
LEAST_LEFT = 0.1
"""Share of an attribute's variance that the others may not explain: below it they cannot be told apart."""
ENCODED_AGAIN = 100
"""Images on which it is measured how much of a step a model's images show."""
LEAST_SHOWN = 0.5
"""What shows less of its step than this is not made longer for it: much of the attribute is beyond the model."""


@dataclass(frozen=True)
class Direction:
    """The way from codes of images without an attribute to codes of images with it.

    Images are of k kinds: the first are those with the attribute, the others those without it, such as each other colour.
    """

    name: str
    vector: Array
    """(d,): from the mean of all images without it to the mean of those with it, others held where they were named."""
    beyond: Array
    """(d,): as `vector`, but for what would lead nearer to another kind; on from the mean of the images with it."""
    means: Array
    """(k, d): the mean code of each kind, other attributes held."""
    normals: Array
    """(k, d): normals @ z + offsets are the log probabilities that an image is of each kind, up to a constant."""
    offsets: Array
    """(k,)"""
    accuracy: float
    """Of a linear classifier of the attribute, on codes that it has not seen; balanced over the two groups."""
    interval: tuple[float, float]
    """95 % interval of the accuracy."""
    n: int
    kept: tuple[str, ...] = ()
    """Attributes that the direction leaves alone."""
    shown: float = 1.0
    """Share of a step that the model's images show, as `calibrated` measures it."""

    def step(self, codes: npt.ArrayLike, strength: float) -> Array:
        """What to add to each of codes (n, *d), (n, d).

        A strength of 1 puts the mean of the images with the attribute in place of the mean of an image's own kind, which is
        the mean of the kinds as likely as its code makes each of them; what exceeds 1 goes on `beyond`. Where the model's
        images show but a part of this, all of it is longer, up to twice. Below 0 an image loses the attribute as far as it
        is likely to have it; what falls below -1 goes on against `vector`.
        """
        z = np.asarray(codes, np.float64).reshape(len(np.asarray(codes)), -1)
        odds = z @ self.normals.T + self.offsets
        share = np.exp(odds - odds.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        first, further = min(abs(strength), 1.0), max(abs(strength) - 1.0, 0.0)
        if strength < 0:
            return -(first * share[:, :1] + further) * self.vector
        way = first * (self.means[0] - share @ self.means) + further * self.beyond
        return way / min(max(self.shown, LEAST_SHOWN), 1.0)


Change = tuple[Direction | npt.ArrayLike, float]
"""A direction, or a vector (d,) that is the same for all images, and how many times it is added."""


def find_direction(name: str, codes: npt.ArrayLike, has: npt.ArrayLike, keep: Mapping[str, npt.ArrayLike] | None = None,
                   kinds: npt.ArrayLike | None = None) -> Direction:
    """The direction of an attribute that images have or have not, (n,) bool, in codes (n, d).

    `kinds`, (n,), are the values by which images without it differ, such as their colours of hair; by default they are of
    one kind. Codes are modelled as a sum of effects, one for each kind and one for each attribute to `keep`, and noise,
    z = μ + Σ_k a_k B_k + ε, so that what belongs to another attribute is not put down to this one.

    Raises:
        UsageError: too few images with it, or without; or an attribute that the kept ones determine.
    """
    z, y = np.asarray(codes, np.float64), np.asarray(has, bool)
    others = {k: np.asarray(v, bool) for k, v in (keep or {}).items()}
    for what, each in {name: y, **others}.items():
        if min(each.sum(), (~each).sum()) < FEWEST:
            raise UsageError(f"{what!r}: {counted(int(each.sum()), 'image has', 'images have')} it and {(~each).sum()} do "
                             f"not; a direction takes at least {FEWEST} of both")
    held = np.stack([each - each.mean() for each in others.values()], 1) if others else np.zeros((len(y), 0))
    left = y - y.mean() - held @ np.linalg.lstsq(held, y - y.mean(), rcond=None)[0]
    if not left.var() > LEAST_LEFT * y.var():
        raise UsageError(f"{name!r} cannot be told from {', '.join(others)} in these images: keep fewer of them")
    center, scale = z.mean(0), np.maximum(z.std(0), 1e-8)
    x, kind = (z - center) / scale, _kinds(y, kinds)
    means, n = _means(x, kind, held), np.bincount(kind)
    vector = means[0] - n[1:] @ means[1:] / n[1:].sum()
    normals, offsets, precision = _classifier(x, kind)
    right, accuracy = _accuracy(x, y)
    return Direction(name, vector=vector * scale, beyond=_beyond(means, vector, precision) * scale,
                     means=means * scale + center, normals=normals / scale, offsets=offsets - normals @ (center / scale),
                     accuracy=accuracy, interval=wilson(accuracy, right), n=len(y), kept=tuple(others))


def calibrated(found: Direction, codes: npt.ArrayLike, again: Callable[[Array], Array]) -> Direction:
    """The direction with its strengths in units of what the model's images show of them.

    `codes`, (n, d), are of images without the attribute, and `again` encodes what codes are decoded to. A decoder that draws
    an attribute more faintly than it was gives images that are encoded again on this side of the place to which they
    were sent: what is measured is the change of log p(attribute) − mean_k log p(k), which is linear in a code, as a share of
    the change that was asked for, over both means of at most 100 codes.
    """
    z = np.asarray(codes, np.float64)
    z = z[np.linspace(0, len(z) - 1, min(len(z), ENCODED_AGAIN)).astype(int)]
    normal, step = found.normals[0] - found.normals[1:].mean(0), replace(found, shown=1.0).step(z, 1.0)
    asked = float((step @ normal).mean())
    reached = float(((again(z + step) - again(z)) @ normal).mean())
    return replace(found, shown=reached / asked if asked > 0 else 1.0)


def encoded_again(model: ImageModel, codes: npt.ArrayLike) -> Array:
    """The codes (n, d) of the images that codes (n, d) are decoded to."""
    z = np.asarray(codes, np.float64).reshape(-1, *model.latent_shape)
    return model.encode(model.decode(moved(model, z, steps(z, ())))).reshape(len(z), -1).astype(np.float64)


def direction_of(codes: npt.ArrayLike, wanted: Attribute, keep: Mapping[str, Attribute] | None = None) -> Direction:
    """The direction of an attribute in codes (n, d), from the images of which it and those to `keep` are known.

    What is kept and has too few images, with it or without, is left out.

    Raises:
        UsageError: as `find_direction` does.
    """
    others = keep or {}
    rows = np.all([wanted.known, *(each.known for each in others.values())], 0)
    flags = {name: each.has[rows] for name, each in others.items()}
    enough = {name: has for name, has in flags.items() if min(has.sum(), (~has).sum()) >= FEWEST}
    return find_direction(wanted.name, np.asarray(codes)[rows], wanted.has[rows], enough, wanted.kinds[rows])


def _kinds(has: Array, kinds: npt.ArrayLike | None) -> Array:
    """Numbers of kinds (n,): 0 of the images with an attribute; those of which there are few are one kind together."""
    values, of = np.unique(np.zeros(len(has)) if kinds is None else np.asarray(kinds), return_inverse=True)
    n = np.bincount(of[~has], minlength=len(values))
    pooled = np.where(n >= FEWEST, np.arange(len(values)), len(values))[of]
    return np.where(has, 0, 1 + np.unique(np.where(has, pooled[~has][0], pooled), return_inverse=True)[1])


def _means(x: Array, kind: Array, held: Array) -> Array:
    """The mean code of each kind (k, d), of codes (n, d) whose mean is 0, were the columns (n, j) to hold at their means."""
    share = np.bincount(kind) / len(kind)
    design = np.concatenate([np.eye(len(share))[kind] - share, held], 1)
    effects = np.linalg.lstsq(design, x, rcond=None)[0][: len(share)]
    return effects - share @ effects  # which are known up to a constant


def _classifier(x: Array, kind: Array) -> tuple[Array, Array, Array]:
    """Fisher's discriminant of kinds, from codes (n, d): normals (k, d), offsets (k,), and Σ⁻¹ (d, d) of the codes within a
    kind, Σ after Ledoit & Wolf (2004)."""
    from sklearn.covariance import ledoit_wolf

    n = np.bincount(kind)
    means = np.eye(len(n))[kind].T @ x / n[:, None]
    precision = np.linalg.inv(ledoit_wolf(x - means[kind], assume_centered=True)[0])
    normals = means @ precision
    return normals, np.log(n / len(x)) - (normals * means).sum(1) / 2, precision


def _beyond(means: Array, vector: Array, precision: Array) -> Array:
    """The step nearest to `vector`, by the metric Σ⁻¹, that leads nearer to no other kind than the mean of the first is:
    (m_0 − m_k)ᵀ Σ⁻¹ step ≥ 0 for all k. The projection on this cone is `vector` + Σ_k λ_k (m_0 − m_k) with the λ ≥ 0 that
    make it the shortest (Moreau, 1962)."""
    from scipy.optimize import nnls

    apart, root = means[0] - means[1:], np.linalg.cholesky(precision)
    weights = np.asarray(nnls((apart @ root).T, -vector @ root)[0])
    return vector + weights @ apart


def _accuracy(x: Array, y: Array) -> tuple[float, float]:
    """Effective number of images, and balanced accuracy by cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    told = np.asarray(cross_val_predict(LogisticRegression(C=0.1, max_iter=300, class_weight="balanced"), x, y, cv=folds))
    with_it, without = float((told[y]).mean()), float((~told[~y]).mean())
    n = 4 / (1 / y.sum() + 1 / (~y).sum())  # the variance of a mean of two shares
    return float(n), (with_it + without) / 2


def principal_directions(codes: npt.ArrayLike, k: int = 8) -> tuple[Array, Array]:
    """The k leading principal components of codes (n, d): vectors (k, d) one standard deviation long, and shares (k,) of the
    variance."""
    z = np.asarray(codes, np.float64)
    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True).reshape(z.shape[1], z.shape[1]))
    order = values.argsort()[::-1][:k]
    return (vectors[:, order] * np.sqrt(np.maximum(values[order], 0))).T, values[order] / max(values.sum(), 1e-300)


def visible_directions(model: ImageModel, codes: Float[Tensor, "m *d"], std: Float[Tensor, "d"], k: int = 8, *,
                       iterations: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The directions in which the decoder's image changes most: the leading right singular vectors of its Jacobian, at all
    `codes` together, each dimension in units of its `std`.

    Returns vectors (k, d) of one such unit and the root mean square change of an image's values along each, (k,). Found by
    subspace iteration with products of the Jacobian alone. (Golub & Van Loan, 2013, section 8.2)
    """
    shape, std = codes.shape[1:], std.to(model.device)
    z = codes.to(model.device)

    def image_of(flat: Tensor) -> Tensor:
        return model.network.decode(flat.unflatten(1, shape)[None]).mean[0].flatten(1)

    def gram(block: Tensor) -> Tensor:
        """JᵀJ applied to the rows of a block (b, d), averaged over codes and pixel values."""
        with sdpa_kernel(SDPBackend.MATH):  # the others cannot be differentiated twice
            flat = z.flatten(1)
            out, back, *_ = torch.func.vjp(image_of, flat)
            _, forward, *_ = torch.func.vjp(lambda u: back(u)[0], torch.zeros_like(out))  # Jᵀ is linear, and its transpose J
            rows = [forward((v * std).expand_as(flat))[0] for v in block]
            return torch.stack([back(row)[0].sum(0) * std for row in rows]) / out.numel()

    d, generator = z[0].numel(), torch.Generator().manual_seed(seed)
    block = torch.randn(min(k + 4, d), d, generator=generator).to(model.device)
    for _ in range(iterations):
        block = torch.linalg.qr(gram(torch.linalg.qr(block.T)[0].T).T)[0].T
    small = block @ gram(block).T
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    order = values.argsort(descending=True)[:k]
    return (vectors[:, order].T @ block * std).detach().cpu(), values[order].clamp(min=0).sqrt().detach().cpu()


def moved(model: ImageModel, codes: npt.ArrayLike, step: npt.ArrayLike) -> Array:
    """Codes (n, *latent) with a step (d,) or (n, d) added, as this model's codes can be.

    Where they lie on spheres they are brought back to them, bits are clipped to [0, 1], and shares of classes, none below
    0, are scaled to the sum 1.

    Raises:
        UsageError: the codes are whole numbers, between which there is nothing.
    """
    z, space = np.asarray(codes, np.float64), model.network.latent.space
    if space.kind == "codes":
        raise UsageError("this model's codes are whole numbers, which cannot be added to: edits take a model of another "
                         "posterior, such as gaussian")
    after = z + np.asarray(step, np.float64).reshape(-1, *z.shape[1:])
    if space.kind == "sphere":
        after = after / np.maximum(np.linalg.norm(after, axis=1, keepdims=True), 1e-12)
    elif space.kind == "relaxed" and space.levels:
        shares = after.clip(1e-6).reshape(len(after), -1, space.levels, *z.shape[2:])
        after = (shares / shares.sum(2, keepdims=True)).reshape(after.shape)
    elif space.kind == "relaxed":
        after = after.clip(0, 1)
    return after.astype(np.float32)


def steps(codes: npt.ArrayLike, changes: Sequence[Change], share: float = 1.0) -> Array:
    """What changes add to codes (n, *d) at a `share` of their strengths, (n, d)."""
    z = np.asarray(codes)
    total = np.zeros((len(z), z[0].size))
    for what, strength in changes:
        s = share * strength
        total += what.step(z, s) if isinstance(what, Direction) else s * np.asarray(what, np.float64)
    return total


def edit(model: ImageModel, images: npt.NDArray[np.uint8], changes: Sequence[Change], *, detail: float = 1.0
         ) -> npt.NDArray[np.uint8]:
    """Images (n, H, W, C), uint8, moved along directions, each so many times.

    `detail` is how much of what reconstruction loses of each image is added back, from 0 to 1.
    """
    return walk(model, images, changes, (1.0,), detail=detail)[:, 0]


def walk(model: ImageModel, images: npt.NDArray[np.uint8], changes: Sequence[Change], stops: Sequence[float], *,
         detail: float = 1.0) -> npt.NDArray[np.uint8]:
    """Images at several stops of the way of an edit, 0 its begin and 1 its end: (n, stops, H, W, C), uint8."""
    if not 0 <= detail <= 1:
        raise UsageError(f"detail is a share from 0 to 1 of what reconstruction loses; got {detail}")
    z = model.encode(images)
    before = _decoded(model, moved(model, z, steps(z, ())), images.shape)
    lost = detail * (images - before)
    ways = (_decoded(model, moved(model, z, steps(z, changes, stop)), images.shape) + lost for stop in stops)
    return np.stack([each.round().clip(0, 255).astype(np.uint8) for each in ways], 1)


def mix(model: ImageModel, images: npt.NDArray[np.uint8], weights: Sequence[float]) -> npt.NDArray[np.uint8]:
    """The image (H, W, C), uint8, of a weighted sum of the codes of images (n, H, W, C)."""
    z = model.encode(images).astype(np.float64)
    total = np.tensordot(np.asarray(weights, np.float64), z, 1)[None]
    return _decoded(model, moved(model, total, np.zeros(total.size)), (1, *images.shape[1:]))[0].astype(np.uint8)


def _decoded(model: ImageModel, z: Array, shape: tuple[int, ...]) -> Array:
    return model.decode(z).reshape(len(z), *shape[1:]).astype(np.float64)


def middle(codes: npt.ArrayLike) -> int:
    """The row of codes (n, d) that is nearest to their mean, in units of their deviations: the most ordinary one."""
    z = np.asarray(codes, np.float64)
    return int((((z - z.mean(0)) / np.maximum(z.std(0), 1e-8)) ** 2).sum(1).argmin())


class Facts(TypedDict):
    """What is kept of a direction beside its vector."""

    name: str
    accuracy: float
    interval: list[float]
    n: int
    kept: list[str]
    shown: float


FILE, WHAT = "directions.safetensors", "directions"
AGAIN = "reparam direction RUN DATA"
ARRAYS = ("vector", "beyond", "means", "normals", "offsets")


def save_directions(folder: str | Path, model: ImageModel, directions: Mapping[str, Direction]) -> None:
    """Keeps directions by name beside a model; what was kept before is replaced."""
    facts = [Facts(name=d.name, accuracy=d.accuracy, interval=list(d.interval), n=d.n, kept=list(d.kept),
                   shown=d.shown)
             for d in directions.values()]
    arrays = {f"{i}.{name}": np.asarray(getattr(d, name), np.float32)
              for i, d in enumerate(directions.values()) for name in ARRAYS}
    save_fitted(Path(folder) / FILE, WHAT, model, arrays, facts)


def read_directions(folder: str | Path, model: ImageModel) -> dict[str, Direction]:
    """The directions that are kept beside a model, by name; none where none were found.

    Raises:
        ModelFileError: they cannot be read, are of another model, or were written before they knew the kinds of images.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return {}
    arrays, facts = read_fitted(path, WHAT, model, list[Facts], again=AGAIN)
    d = int(np.prod(model.latent_shape))
    found: dict[str, Direction] = {}
    for i, f in enumerate(facts):
        of_one = {name: arrays.get(f"{i}.{name}", np.zeros(0)) for name in ARRAYS}
        k = len(of_one["offsets"])
        shapes = {"vector": (d,), "beyond": (d,), "means": (k, d), "normals": (k, d), "offsets": (k,)}
        if k < 2 or len(f["interval"]) != 2 or any(of_one[name].shape != shape for name, shape in shapes.items()):
            raise ModelFileError(f"{path} does not hold directions of {d} numbers as this version of reparam finds them. "
                                 f"Write it again with: {AGAIN}")
        found[f["name"]] = Direction(f["name"], **of_one, accuracy=f["accuracy"], n=f["n"], kept=tuple(f["kept"]),
                                     interval=(f["interval"][0], f["interval"][1]), shown=f["shown"])
    return found
