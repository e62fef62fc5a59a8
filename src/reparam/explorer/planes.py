"""Planes through a latent space, on which every point can be decoded."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from ..downstream.maps import FEWEST, Map, component_titles, plane_map, principal_map
from ..errors import UsageError
from ..models.codes import Axis

PCA = "pca"
LATENTS = re.compile(r"latents:(\d{1,6}),(\d{1,6})")


def plane_of(name: str, codes: npt.NDArray[np.float32], axes: tuple[Axis, ...]) -> Map:
    """A plane by its name, "pca" or "latents:3,7", with the place of each code (n, d) on it.

    Without codes, dimensions that a plane does not show stay at their means over the images of training.

    Raises:
        UsageError: no such plane, or too few codes for it.
    """
    if name == PCA:
        if len(codes) < FEWEST:
            raise UsageError("principal components are those of the codes of images, of which there are too few here: take "
                             "two latents")
        return principal_map(codes)
    found = LATENTS.fullmatch(name)
    if found is None:
        raise UsageError('unknown plane: there are "pca", and two latents such as "latents:3,7"')
    i, j = int(found[1]), int(found[2])
    if len(codes):
        return plane_map(codes, i, j)
    centre = np.zeros((1, codes.shape[1]))
    for axis in axes:
        centre[0, axis.index] = axis.mean
    made = plane_map(centre, i, j)
    return Map(np.zeros((0, 2)), made.method, float("nan"), made.centre, made.axes)


def titles_of(name: str, plane: Map, codes: npt.NDArray[np.float32]) -> list[str]:
    """What the plane's two directions are called."""
    found = LATENTS.fullmatch(name)
    if found is not None:
        return [f"latent {found[1]}", f"latent {found[2]}"]
    return component_titles(plane, codes)


def code_at(plane: Map, x: float, y: float) -> npt.NDArray[np.float64]:
    """The code (1, d) of a point of a plane.

    Raises:
        UsageError: a map that is no plane.
    """
    if plane.centre is None or plane.axes is None:
        raise UsageError("this map is no plane, so that its points have no code")
    return (plane.centre + x * plane.axes[0] + y * plane.axes[1])[None]
