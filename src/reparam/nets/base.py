"""What every encoder and decoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from ..parts import registry
from ..tensors import Shape


class Encoder(nn.Module, ABC):
    """A network from images to the features h that a posterior reads."""

    features: Shape
    """Of one image's h: (F,), or (C, h, w) on a grid."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b *f"]:
        """h of images in [0, 1]."""


class Decoder(nn.Module, ABC):
    """A network from latents to the parameters of a likelihood."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "b *d"]) -> Float[Tensor, "b channels h w"]:
        """As many numbers for each pixel as the likelihood has `channels`."""


ENCODERS = registry.encoder.of(Encoder)
DECODERS = registry.decoder.of(Decoder)
