"""Maps of codes as the page shows them: planes through a latent space, each of whose points has one code, and
neighbourhoods, whose places have the codes of the points around them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..downstream.maps import FEWEST, Map, component_titles, plane_map, principal_map
from ..downstream.neighbourhoods import Inverse
from ..downstream.pacmap_program import PLACED_BY, amid
from ..downstream.search import Index
from ..errors import UsageError
from ..models.codes import Axis

Array = npt.NDArray[Any]
PCA, NEIGHBOURHOODS = "pca", "pacmap"
LATENTS = re.compile(r"latents:(\d{1,6}),(\d{1,6})")


@dataclass(frozen=True)
class Plane:
    """The code at (a, b) is centre + a · axes[0] + b · axes[1]."""

    map: Map
    titles: list[str]
    """What the two directions are called."""
    centre: Array
    axes: Array
    by_neighbours: ClassVar[bool] = False

    def code_at(self, x: float, y: float) -> Array:
        """The code (1, d) of a place."""
        return (self.centre + x * self.axes[0] + y * self.axes[1])[None]

    def places(self, codes: Array) -> Array:
        """Where codes (n, d) lie, (n, 2), or the points of the plane that are nearest to them."""
        return np.linalg.lstsq(self.axes.T, (codes - self.centre).T, rcond=None)[0].T


@dataclass(frozen=True)
class Neighbourhoods:
    """Near are those whose codes are near; distances and directions mean nothing."""

    map: Map
    index: Index
    """Of the codes of its points."""
    by_neighbours: ClassVar[bool] = True
    titles: ClassVar[list[str]] = []

    @cached_property
    def _inverse(self) -> Inverse:
        return Inverse.of(self.map.xy, self.index.vectors.numpy())

    def code_at(self, x: float, y: float) -> Array | None:
        """The code (1, d) of a place, of the points around it; None where nothing is near."""
        return self._inverse.code_at(x, y)

    def places(self, codes: Array) -> Array:
        """Where codes (n, d) lie, (n, 2), amid the points of the nearest codes."""
        near = self.index.search(codes, min(PLACED_BY, len(self.map.xy))).rows
        return amid(self.map.xy[near])


Places = Plane | Neighbourhoods


def plane_of(name: str, codes: npt.NDArray[np.float32], axes: tuple[Axis, ...]) -> Plane:
    """A plane by its name, "pca" or "latents:3,7", with the place of each code (n, d) on it.

    Without codes, dimensions that a plane does not show stay at their means over the images of training.

    Raises:
        UsageError: no such plane, or too few codes for it.
    """
    if name == PCA:
        if len(codes) < FEWEST:
            raise UsageError("principal components are those of the codes of images, of which there are too few here: take "
                             "two latents")
        made = principal_map(codes)
        return _plane(made, component_titles(made, codes))
    found = LATENTS.fullmatch(name)
    if found is None:
        raise UsageError('unknown plane: there are "pca", "pacmap", and two latents such as "latents:3,7"')
    i, j = int(found[1]), int(found[2])
    titles = [f"latent {i}", f"latent {j}"]
    if len(codes):
        return _plane(plane_map(codes, i, j), titles)
    centre = np.zeros((1, codes.shape[1]))
    for axis in axes:
        centre[0, axis.index] = axis.mean
    made = plane_map(centre, i, j)
    return _plane(Map(np.zeros((0, 2)), made.method, float("nan"), made.centre, made.axes), titles)


def _plane(made: Map, titles: list[str]) -> Plane:
    if made.centre is None or made.axes is None:
        raise TypeError(f"{made.method} is no plane")
    return Plane(made, titles, made.centre, made.axes)
