"""Directions in the latent space: what an attribute changes, what codes vary along, and what the decoder shows most.

All work on flattened codes (n, d), and a step of 1 is the distance between the two groups of an attribute, or a standard
deviation of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
"""Share of an attribute's effect that must remain when others are held: below it they cannot be told apart."""


@dataclass(frozen=True)
class Direction:
    """What to add to a code, once, to bring an image from without an attribute to with it."""

    name: str
    vector: Array
    """(d,): the difference of the two groups' codes, other attributes held where they were named."""
    accuracy: float
    """Of a linear classifier of the attribute, on codes that it has not seen; balanced over the two groups."""
    interval: tuple[float, float]
    """95 % interval of the accuracy."""
    n: int
    kept: tuple[str, ...] = ()
    """Attributes that the direction leaves alone."""


def find_direction(name: str, codes: npt.ArrayLike, has: npt.ArrayLike, keep: Mapping[str, npt.ArrayLike] | None = None
                   ) -> Direction:
    """The direction of an attribute that images have or have not, (n,) bool, in codes (n, d).

    Codes are modelled as a sum of effects, one for each attribute, and noise, z = μ + Σ_k a_k B_k + ε, so that what belongs
    to another attribute is not put down to this one. B_kᵀ Σ⁻¹ z is then, up to a constant, the log odds of attribute k when
    the others are known. The part of an effect that would move these odds of the attributes to `keep` is taken out; the
    rest is scaled so that a step of 1 moves the attribute's own log odds as far as the whole effect did.

    Raises:
        UsageError: too few images with it, or without; or an attribute that the kept ones determine.
    """
    z, y = np.asarray(codes, np.float64), np.asarray(has, bool)
    columns = {name: y, **{k: np.asarray(v, bool) for k, v in (keep or {}).items()}}
    for what, each in columns.items():
        if min(each.sum(), (~each).sum()) < FEWEST:
            raise UsageError(f"{what!r}: {counted(int(each.sum()), 'image has', 'images have')} it and {(~each).sum()} do "
                             f"not; a direction takes at least {FEWEST} of both")
    scale = np.maximum(z.std(0), 1e-8)
    x = (z - z.mean(0)) / scale
    effects, normals = _effects(x, np.stack(list(columns.values()), 1).astype(np.float64))
    step = effects[0]
    if len(columns) > 1:
        step = step - np.linalg.pinv(normals[1:], rcond=1e-6) @ (normals[1:] @ step)  # two to keep may be one thing
        left = float(normals[0] @ step) / float(normals[0] @ effects[0])
        if not left > LEAST_LEFT:
            others = ", ".join(list(columns)[1:])
            raise UsageError(f"{name!r} cannot be told from {others} in these codes: keep fewer of them")
        step = step / left
    right, accuracy = _accuracy(x, y)
    return Direction(name, step * scale, accuracy, wilson(accuracy, right), len(y), tuple(list(columns)[1:]))


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
    return find_direction(wanted.name, np.asarray(codes)[rows], wanted.has[rows], enough)


def _effects(x: Array, attributes: Array) -> tuple[Array, Array]:
    """B and Σ⁻¹B of codes (n, d) with the mean 0, and attributes (n, k), both (k, d); of the least norm where attributes
    determine one another."""
    from sklearn.covariance import ledoit_wolf

    design = attributes - attributes.mean(0)
    fitted = np.linalg.lstsq(design, x, rcond=None)[0]
    covariance, _ = ledoit_wolf(x - design @ fitted, assume_centered=True)
    return fitted, np.linalg.solve(covariance, fitted.T).T


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


def edit(model: ImageModel, images: npt.NDArray[np.uint8], changes: Sequence[tuple[npt.ArrayLike, float]], *,
         detail: float = 1.0) -> npt.NDArray[np.uint8]:
    """Images (n, H, W, C), uint8, moved along directions (d,), each so many times.

    `detail` is how much of what reconstruction loses of each image is added back, from 0 to 1.
    """
    return walk(model, images, changes, (1.0,), detail=detail)[:, 0]


def walk(model: ImageModel, images: npt.NDArray[np.uint8], changes: Sequence[tuple[npt.ArrayLike, float]],
         stops: Sequence[float], *, detail: float = 1.0) -> npt.NDArray[np.uint8]:
    """Images at several stops of the way of an edit, 0 its begin and 1 its end: (n, stops, H, W, C), uint8."""
    if not 0 <= detail <= 1:
        raise UsageError(f"detail is a share from 0 to 1 of what reconstruction loses; got {detail}")
    z = model.encode(images)
    step = sum((strength * np.asarray(vector, np.float64) for vector, strength in changes), np.zeros(z[0].size))
    before = _decoded(model, moved(model, z, 0 * step), images.shape)
    lost = detail * (images - before)
    ways = (_decoded(model, moved(model, z, stop * step), images.shape) + lost for stop in stops)
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


FILE, WHAT = "directions.safetensors", "directions"
AGAIN = "reparam direction RUN DATA"


def save_directions(folder: str | Path, model: ImageModel, directions: Mapping[str, Direction]) -> None:
    """Keeps directions by name beside a model; what was kept before is replaced."""
    facts = [Facts(name=d.name, accuracy=d.accuracy, interval=list(d.interval), n=d.n, kept=list(d.kept))
             for d in directions.values()]
    save_fitted(Path(folder) / FILE, WHAT, model, {f"{i}": d.vector for i, d in enumerate(directions.values())}, facts)


def read_directions(folder: str | Path, model: ImageModel) -> dict[str, Direction]:
    """The directions that are kept beside a model, by name; none where none were found.

    Raises:
        ModelFileError: they cannot be read, or are of another model.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return {}
    arrays, facts = read_fitted(path, WHAT, model, list[Facts], again=AGAIN)
    size = int(np.prod(model.latent_shape))
    vectors = [arrays.get(f"{i}") for i in range(len(facts))]
    if any(v is None or v.shape != (size,) for v in vectors) or any(len(f["interval"]) != 2 for f in facts):
        raise ModelFileError(f"{path} does not hold a vector of {size} numbers for each direction. Write it again with: "
                             f"{AGAIN}")
    return {f["name"]: Direction(f["name"], v, f["accuracy"], (f["interval"][0], f["interval"][1]), f["n"], tuple(f["kept"]))
            for f, v in zip(facts, vectors, strict=True) if v is not None}
