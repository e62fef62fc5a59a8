"""The space of a latent: the set that a posterior draws from, and that a prior is a density on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..tensors import Shape


@dataclass(frozen=True)
class Space:
    """The set that draws of a posterior come from."""

    shape: Shape
    """Of one draw; for codes, the grid of them."""
    kind: str = "real"
    """'real' numbers, points of a unit 'sphere', 'relaxed' bits or classes in (0, 1), or integer 'codes'."""
    levels: int = 0
    """How many values a code can take, or classes a relaxed one has."""
    image_shape: Shape = ()
    """Of the images, for a prior that is made from posteriors of images."""
    inference: tuple[nn.Module, ...] = ()
    """Encoder and posterior, which in turn take images to q(z | x), where nothing else stands between them. A tuple: the
    prior uses them, and does not own them."""
