"""Quantised latents: the point mass at an example's integer codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Reparameterized


@dataclass(frozen=True)
class Quantized(Reparameterized):
    """q(codes | x): all mass on one grid of integer codes, with the vectors that these stand for.

    It has no randomness: draws are the codes themselves, and gradients take the way of `vectors`, which pass them
    from the decoder to the encoder as if nothing had been rounded (van den Oord et al., 2017, arXiv:1711.00937, 3.2).
    """

    codes: Tensor
    """(B, *grid), int64."""
    vectors: Tensor
    """(B, *d): `quantized` by value, with the gradient of `raw`."""
    raw: Tensor
    """(B, *d): the encoder's output, before quantisation."""
    quantized: Tensor
    """(B, *d): what the codes stand for, with the codebook's own gradient where it has one."""
    affinities: tuple[Tensor, ...]
    """Minus the squared distance of what was quantised to each level that it could have taken, (B, depth, n, levels),
    for `depth` codebooks and `n` codes from each. A code may have several independent factors, as the bits of a
    number: one tensor for each, whose levels multiply to the number of codes."""

    @property
    def mean(self) -> Tensor:
        """The quantised vectors (B, *d), by which people know an image; codes are names, which have no mean."""
        return self.quantized

    @property
    def by_codebook(self) -> Tensor:
        """(depth, B·n): the codes that came from each codebook."""
        depth = self.affinities[0].shape[1]
        return self.codes.reshape(len(self.codes), depth, -1).transpose(0, 1).flatten(1)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.codes.expand(*shape, *self.codes.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 where all codes are this example's own, −∞ elsewhere."""
        same = (value == self.codes).flatten(1 - self.codes.dim()).all(-1)
        zero = torch.zeros((), device=value.device)
        return torch.where(same, zero, float("-inf"))
