"""The networks that are compared, as recipes of ours: those of other programs are written anew from their descriptions and
registered as parts. Who compares checks that theirs and ours have as many parameters.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from reparam.nets.base import Decoder, Encoder
from reparam.nets.layers import from_latent
from reparam.parts.presets import PRESETS
from reparam.parts.recipe import Recipe
from reparam.parts.registry import decoder, encoder
from reparam.tensors import Shape


class Bottleneck(nn.Module):
    """x + 1×1(ReLU(3×3(ReLU(x)))), with a quarter of the channels between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels // 4, 3, padding=1),
                                 nn.ReLU(), nn.Conv2d(channels // 4, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class OddTransposed(nn.ConvTranspose2d):
    """A transposed convolution with stride 2 to an odd size, as the even size next to it, cropped: the same numbers, in a
    sixth of the time, since oneDNN has no quick kernel for the odd one in bfloat16."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x, output_size)[..., :-1, :-1]


@encoder("pythae_resnet")
class PythaeResNetEncoder(Encoder):
    """Pythae's ResNet for MNIST, from 28×28 pixels to a grid of 4×4."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1), nn.Conv2d(64, 128, 4, 2, 1), nn.Conv2d(128, 128, 3, 2, 1),
                                 Bottleneck(128), Bottleneck(128))
        self.features = (128, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("pythae_resnet")
class PythaeResNetDecoder(Decoder):
    """Its mirror, from a vector or a map of 4×4 codes; the sigmoid at its end is the likelihood's."""

    def __init__(self, latent_shape: Shape, out_shape: Shape) -> None:
        super().__init__()
        first = nn.Conv2d(latent_shape[0], 128, 1) if len(latent_shape) == 3 else from_latent(latent_shape, 128, (4, 4))
        self.net = nn.Sequential(first, OddTransposed(128, 128), Bottleneck(128), Bottleneck(128), nn.ReLU(),
                                 nn.ConvTranspose2d(128, 64, 3, 2, 1, 1), nn.ReLU(),
                                 nn.ConvTranspose2d(64, 1, 3, 2, 1, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


WIDTHS = (32, 64, 128, 256, 512)
"""Channels of VanillaVAE's levels, each half the size of the one before."""


def _normed(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.LeakyReLU()]


@encoder("vanilla")
class VanillaEncoder(Encoder):
    """The encoder of VanillaVAE in AntixK/PyTorch-VAE, from 64×64 pixels to a grid of 2×2."""

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None) -> None:
        super().__init__()
        layers = [layer for a, b in pairwise((3, *WIDTHS)) for layer in _normed(nn.Conv2d(a, b, 3, 2, 1), b)]
        self.net = nn.Sequential(*layers)
        self.features = (512, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("vanilla")
class VanillaDecoder(Decoder):
    """Its decoder, which ends in a tanh."""

    def __init__(self, latent_shape: Shape, out_shape: Shape) -> None:
        super().__init__()
        up = [layer for a, b in pairwise((*WIDTHS[::-1], WIDTHS[0]))
              for layer in _normed(nn.ConvTranspose2d(a, b, 3, 2, 1, 1), b)]
        self.net = nn.Sequential(from_latent(latent_shape, 512, (2, 2)), *up, nn.Conv2d(32, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


_PYTHAE = Recipe(latent="flat(16)", likelihood="bernoulli", optimizer="adamw(lr=1e-4)", schedule="constant", ema=0.99)
RECIPES = {
    "mlp": _PYTHAE.but(encoder="mlp((512,), 'relu')", decoder="mlp((512,), 'relu')"),
    "resnet": _PYTHAE.but(encoder="pythae_resnet", decoder="pythae_resnet"),
    # mean squared error, a codebook that is learned by gradient, and no prior, as Pythae's
    "vq": _PYTHAE.but(encoder="pythae_resnet", decoder="pythae_resnet", latent="spatial(16, 7)", posterior="vq(512, decay=0.0)",
                      prior="uniform", likelihood="gaussian(sigma=1.0)", objective="nll + codebook + 0.25*commitment"),
    # its mean squared error and 0.00025 times the KL, times 64·64·3 / 2
    "vanilla": Recipe(encoder="vanilla", decoder="vanilla", latent="flat(128)", likelihood="gaussian(sigma=1.0)",
                      objective="nll + 1.536*kl", optimizer="adamw(lr=5e-3)", schedule="constant"),
    "dcgan": PRESETS["dcgan"].recipe.but(schedule="constant"),
}
"""Of what is compared, by its name."""
SHAPES: dict[str, Shape] = {"vanilla": (3, 64, 64), "dcgan": (3, 32, 32)}
"""Of images that are noise, on which speed does not depend; the others are MNIST's."""


def images_for(name: str, data: str) -> np.ndarray:
    """Images (n, H, W, C), uint8, that the recipe `name` is trained on."""
    if name in SHAPES:
        c, h, w = SHAPES[name]
        return np.random.default_rng(0).integers(0, 256, (2048, h, w, c), dtype=np.uint8)
    return np.load(data)["train_images"][..., None]


def shape_for(name: str) -> Shape:
    return SHAPES.get(name, (1, 28, 28))
