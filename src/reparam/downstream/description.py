"""A description of a model's latents: what each changes in an image, and what of the images it goes along with.

The same is said of directions that matter more than single latents: the principal components of the codes, and those along
which the decoder's images change most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..data.imageset import ImageSet
from ..data.stream import binarized, to_batch
from ..errors import UsageError
from ..metrics.evaluation import Evaluation, Unavailable
from ..metrics.factors import Table, factors
from ..metrics.figures import Figure
from ..metrics.latents import ACTIVE
from ..models.codes import Axis
from ..models.latents import NO_ENCODER
from ..models.latents.top_down import TopDown
from ..pretrained.image_model import ImageModel
from ..tensors import evenly, forked_rng
from ..text import counted
from .columns import FEWEST, Columns, columns_of
from .directions import principal_directions, visible_directions
from .meaning import Association, Effect, associations, effect_of, in_words
from .statistics import code_scale

Array = npt.NDArray[Any]
Kind = Literal["latent", "component", "visible"]
MOST_IMAGES, MOST_SCORED, MOST_SCORED_DIMS = 10_000, 2_000, 512
"""Images that are encoded, images that scores are measured on, and latents that have scores."""
DRAWS = 512
"""Codes that stand for a GAN's."""
STEPS = 9
RANGE = 0.01, 0.99
"""Quantiles of the codes between which a walk goes."""
OTHERS = 4
"""Components and visible directions that are described."""
AT_CODES = 8
"""Codes at which the decoder's Jacobian is taken."""


@dataclass(frozen=True)
class Described:
    """One direction of the latent space: a latent, a principal component of the codes, or what the decoder shows most."""

    name: str
    kind: Kind
    place: str
    """Where a latent stands in a grid or a hierarchy: 'channel 2, row 0, column 3'; '' in a vector."""
    amount: float
    """Of a latent, information, nats; of a component, the share of the codes' variance; of a visible direction, the root
    mean square change of a pixel's value, of 1, for one standard deviation."""
    vector: Array
    """(d,), one standard deviation of the codes along it."""
    walk: npt.NDArray[np.uint8]
    """(steps, H, W[, C]), from the first to the last percentile of the codes along it, through a typical image."""
    effect: Effect
    associations: tuple[Association, ...] = ()
    """With each column, the strongest first."""

    @property
    def best(self) -> Association | None:
        """What it goes along with most, if with anything."""
        return next((a for a in self.associations if a.found and a.explained > 0), None)

    @property
    def moves(self) -> str:
        """What it does to an image, in a line."""
        return in_words(self.effect)


@dataclass(frozen=True)
class Description:
    """What the latents of a model mean."""

    latents: tuple[Described, ...]
    components: tuple[Described, ...]
    visible: tuple[Described, ...]
    columns: tuple[str, ...]
    """What was known of the images."""
    scores: tuple[Figure, ...]
    """MIG, SAP, DCI and the FactorVAE score, for images of which two columns or more are known."""
    n: int
    """Images; 0 for a GAN, whose codes are draws of its prior."""
    carrying: int
    """Latents that carry 0.01 nats or more."""
    notes: tuple[str, ...]
    """What was left out or should be known, in sentences."""
    kind: str = "images"
    """Which images: 'held-out images of photos'."""

    @property
    def all(self) -> tuple[Described, ...]:
        """Latents, components and visible directions."""
        return self.latents + self.components + self.visible


@dataclass(frozen=True)
class _Line:
    """A direction and how far a code lies along it, in steps of `vector` from the mean: (z − mean) · reading."""

    name: str
    kind: Kind
    amount: float
    vector: Array
    reading: Array
    place: str = ""


def describe_latents(model: ImageModel, images: ImageSet | None = None, rows: Array | None = None,
                     table: Table | None = None, *, dims: int = 16) -> Description:
    """Describes the `dims` most informative latents of a model, by the images at `rows` of a set; by all of them without
    `rows`. A GAN is described without images.

    Raises:
        UsageError: a model with an encoder without images, or a GAN with some.
        DataError: the table names none of the images.
    """
    if not model.network.has_encoder:
        if images is not None or table is not None:
            raise UsageError(f"{NO_ENCODER}. Leave images and tables out: what its latents change is described without")
        codes, known = _drawn(model), Columns((), np.zeros((DRAWS, 0), np.int64), ())
        return _described(model, codes, known, (), dims, 0, [
            "A GAN has no encoder: nothing is known of the codes of images, so that latents are sorted by how much they "
            "change, and go along with nothing."])
    if images is None:
        raise UsageError("name images: codes of images tell what latents mean")
    rows = np.arange(len(images.images)) if rows is None else rows
    rows = rows[evenly(len(rows), MOST_IMAGES)]
    known = columns_of(images, rows, table)
    codes = model.encode_pixels(to_batch(images.images[rows])).flatten(1).double().numpy()
    if len(codes) < FEWEST:
        known = Columns((), np.zeros((len(codes), 0), np.int64), ())
    scores, why = _scores(model, images, rows, known)
    return _described(model, codes, known, scores, dims, len(rows), [*_about(model, len(rows)), *known.notes, *why])


def _drawn(model: ImageModel) -> Array:
    with forked_rng(), torch.inference_mode():
        torch.manual_seed(0)
        return model.sampler.codes(DRAWS).flatten(1).double().cpu().numpy()


def _described(model: ImageModel, codes: Array, known: Columns, scores: tuple[Figure, ...], dims: int, n: int,
               notes: list[str]) -> Description:
    axes = model.config.axes
    carrying = [axis for axis in axes if axis.nats >= ACTIVE] if n else list(axes)
    if n and not carrying:
        notes = [*notes, "No latent carries 0.01 nats or more: the model has collapsed, and what is shown is next to "
                 "nothing."]
    mean, std = codes.mean(0), codes.std(0)
    shown = (carrying or list(axes))[:dims]
    lines = [_axis(model, axis, std) for axis in shown]
    enough = len(codes) >= FEWEST
    others = [*(_components(codes) if n and enough else []), *(_visible(model, codes, std) if enough else [])]
    of_axes = associations(codes[:, [a.index for a in axes]], known.levels, known.names) if known.names else []
    of_others = associations(np.stack([(codes - mean) @ line.reading for line in others], 1), known.levels, known.names) \
        if known.names and others else []
    typical = _typical(model, codes)
    place = {axis.index: i for i, axis in enumerate(axes)}
    found = [_walked(model, line, codes, typical, [a for a in of_axes if a.dimension == place[axis.index]])
             for line, axis in zip(lines, shown, strict=True)]
    found += [_walked(model, line, codes, typical, [a for a in of_others if a.dimension == i])
              for i, line in enumerate(others)]
    latents, components, visible = (tuple(d for d in found if d.kind == kind) for kind in ("latent", "component", "visible"))
    return Description(latents, components, visible, known.names, scores, n, len(carrying), tuple(notes))


def _axis(model: ImageModel, axis: Axis, std: Array) -> _Line:
    step = np.zeros(len(std))
    step[axis.index] = 1.0
    length = max(float(std[axis.index]), 1e-12)
    return _Line(f"latent {axis.index}", "latent", axis.nats, step * length, step / length, place_of(model, axis.index))


def place_of(model: ImageModel, index: int) -> str:
    """Where a number of the flattened code stands; '' in a vector."""
    latent, shape = model.network.latent, model.latent_shape
    if isinstance(latent, TopDown):
        layer = int(np.searchsorted(np.cumsum(latent.sizes), index, "right"))
        return f"layer {layer + 1} of {len(latent.sizes)} from the top"
    if len(shape) != 3:
        return ""
    channel, row, column = np.unravel_index(index, shape)
    return f"channel {channel}, row {row}, column {column}"


def _components(codes: Array) -> list[_Line]:
    vectors, shares = principal_directions(codes, OTHERS)
    return [_Line(f"component {i + 1}", "component", float(share), v, v / (v @ v))
            for i, (v, share) in enumerate(zip(vectors, shares, strict=True)) if v @ v > 0]


def _visible(model: ImageModel, codes: Array, std: Array) -> list[_Line]:
    some = torch.from_numpy(codes[evenly(len(codes), AT_CODES)]).float().unflatten(1, model.latent_shape)
    vectors, sizes = visible_directions(model, some, torch.from_numpy(std).float(), OTHERS)
    reading = np.divide(1, std**2, out=np.zeros_like(std), where=std > 1e-8)
    return [_Line(f"visible {i + 1}", "visible", size, v, v * reading)
            for i, (v, size) in enumerate(zip(vectors.double().numpy(), sizes.tolist(), strict=True)) if size > 0]


def _typical(model: ImageModel, codes: Array) -> Array:
    """The code nearest to the mean, dimensions weighted by their information."""
    rows, scale = code_scale(model)
    z = codes[:, rows] * scale if len(rows) else codes
    return codes[((z - z.mean(0)) ** 2).sum(1).argmin()]


def _walked(model: ImageModel, line: _Line, codes: Array, typical: Array, found: Sequence[Association]) -> Described:
    """A direction with its walk through the typical code, and what the walk does."""
    along = (codes - codes.mean(0)) @ line.reading
    here = float((typical - codes.mean(0)) @ line.reading)
    first, last = (float(np.quantile(along, share)) for share in RANGE)
    z = typical + (np.linspace(first, last, STEPS) - here)[:, None] * line.vector
    walk = model.decode(z.reshape(STEPS, *model.latent_shape).astype(np.float32))
    return Described(line.name, line.kind, line.place, line.amount, line.vector, walk, effect_of(walk), tuple(found))


def _scores(model: ImageModel, images: ImageSet, rows: Array, known: Columns) -> tuple[tuple[Figure, ...], list[str]]:
    """Scores of disentanglement, or why there are none."""
    if len(known.names) < 2:
        return (), []
    complete, _ = known.complete
    if int(np.prod(model.latent_shape)) > MOST_SCORED_DIMS:
        return (), [f"Scores of disentanglement are left out: they look at each latent, of which there are more than "
                    f"{MOST_SCORED_DIMS}."]
    some = complete[evenly(len(complete), MOST_SCORED)]
    chosen = _relevelled(known, some)
    if len(chosen.names) < 2:
        return (), []
    x = to_batch(images.images[rows[some]], model.device)
    x = binarized(x, shared=True) if model.config.recipe.binarize else x
    try:
        return tuple(factors(Evaluation(model.sampler, x, factors=chosen.complete[1]))), []
    except Unavailable as e:
        return (), [f"Scores of disentanglement are left out: {e}."]


def _relevelled(known: Columns, rows: Array) -> Columns:
    """The columns of some rows that change among them, with levels counted from 0."""
    levels = [np.unique(column, return_inverse=True)[1] for column in known.levels[rows].T]
    kept = [k for k, level in enumerate(levels) if level.max(initial=0) > 0]
    table = np.stack([levels[k] for k in kept], 1) if kept else np.zeros((len(rows), 0), np.int64)
    return Columns(tuple(known.names[k] for k in kept), table, tuple(known.categorical[k] for k in kept))


def _about(model: ImageModel, n: int) -> list[str]:
    """What should be known of this kind of latent."""
    kind, shape = model.network.latent.space.kind, model.latent_shape
    said: list[str] = []
    if n < FEWEST:
        said.append(f"{counted(n, 'image')} of the {FEWEST} that are needed to tell what latents go along with: this is "
                    "left out.")
    if kind == "codes":
        said.append("The codes are entries of a codebook, one at each place of a grid: what is described are the numbers "
                    "in these vectors, and a walk passes through vectors between the entries, which the decoder "
                    "was not trained on.")
    elif kind == "sphere":
        said.append("The codes lie on a sphere, which walks along straight lines leave.")
    if len(shape) == 3 and kind != "codes":
        said.append("The latents stand in a grid: each sees, and changes, a part of the picture, and goes along but "
                    "weakly with what holds for the whole picture. Components and visible directions span the grid.")
    if isinstance(model.network.latent, TopDown):
        said.append("The latents stand in layers: those of lower ones say what remains when the layers above are known.")
    return said
