"""Which training images are partners: what --pairs names, a table or a number of factors that differ."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.imageset import ImageSet, Rows
from ..data.pairs import differing, redrawn
from ..data.pixels import Pixels
from ..errors import DataError, UsageError, nearest
from ..metrics.factors import known_column, read_table
from ..models.vae import Model
from ..parts.call import parse_call

COLUMN = "partner"
"""Of a table, with the names of partners."""
ACCEPTED = (f"accepted are a .csv or .parquet with the images' names in its first column and their partners' in a column "
            f"{COLUMN!r}, or, for data whose factors are known, how many of them partners differ in, such as factors(1)")


class Pairs(NamedTuple):
    """Images, and partners among them."""

    images: Pixels
    """(n + m, H, W, C): those of the data, and m that were drawn as partners."""
    partners: Rows
    """(n + m,), the row of each one's partner; its own where it has none."""


def check_pairs(pairs: str | None, model: Model, posterior: str) -> None:
    """Raises UsageError where a model needs pairs and has none, or is given some and has no use for them."""
    if model.latent.in_pairs and pairs is None:
        raise UsageError(f"the posterior {posterior} learns from pairs of images: name them with --pairs; {ACCEPTED}")
    if pairs is not None and not model.latent.in_pairs:
        raise UsageError(f"the posterior {posterior} has no use for pairs: leave out --pairs, or give --posterior adaptive, "
                         "or --preset ada_gvae")


def find_pairs(pairs: str, images: ImageSet, rows: Rows, seed: int) -> Pairs:
    """Partners among the training images `rows`, as `pairs` says.

    Raises:
        UsageError: neither a table nor factors(k), or a k that does not leave the partners something to share.
        DataError: no factors, no such table or column, a partner that is not there, or not one pair.
    """
    if Path(pairs).suffix.lower() in (".csv", ".parquet"):
        partners = _named(pairs, images, rows)
    elif images.redraw is not None and images.factors:
        drawn = redrawn(images.factors, rows, _differing(pairs), seed)
        n, m = len(images), len(rows)
        partners = np.arange(n + m)
        partners[rows] = n + np.arange(m)
        return Pairs(np.concatenate([images.images, images.redraw(drawn)]), partners)
    elif images.factors:
        partners = differing(images.factors, rows, _differing(pairs), seed)
    else:
        k = _differing(pairs)
        raise DataError(f"factors({k}) needs data whose factors are known, and {images.source} has none: labels of several "
                        f"columns in an .npz. Otherwise {ACCEPTED}")
    if (partners == np.arange(len(partners))).all():
        raise DataError(f"{pairs} makes no pair of the {len(rows):,} training images of {images.source}: partners are two "
                        "different ones, neither of them held out")
    return Pairs(images.images, partners)


def _differing(pairs: str) -> int:
    """k of factors(k)."""
    call = parse_call(pairs)
    given = [*call.args, *call.kwargs.values()]
    if call.name != "factors" or len(given) != 1 or set(call.kwargs) - {"k"} or type(given[0]) is not int:
        raise UsageError(f"--pairs {pairs!r} is neither a table nor a number of factors: {ACCEPTED}")
    return given[0]


def _named(path: str, images: ImageSet, rows: Rows) -> Rows:
    """Partners by the names in a table; a pair may stand there once. Held-out images are left alone."""
    at = {name: i for i, name in enumerate(images.names)}
    ends = {name.rsplit("/", 1)[-1]: i for name, i in at.items()}
    at = ends | at if len(ends) == len(at) else at
    partners, training = np.arange(len(images)), np.zeros(len(images), np.bool_)
    training[rows] = True
    column = known_column(read_table(path), COLUMN, images.names)
    named = [(i, name) for i, name in enumerate(column) if name]
    for i, name in named:
        if name not in at:
            raise DataError(f"{path} says that {images.names[i]!r} has the partner {name!r}, and {images.source} has no "
                            f"such image{nearest(name, at)}")
    found = [(i, at[name]) for i, name in named if training[i] and training[at[name]]]
    for i, j in reversed(found):
        partners[j] = i
    for i, j in found:
        partners[i] = j
    return partners
