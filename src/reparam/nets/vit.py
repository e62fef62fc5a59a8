"""Vision transformers for any image size, and self-attention for networks on grids.

Every residual branch starts at zero, as that of `layers.Residual` does: at the start a stack of any depth is the identity.
"""

from __future__ import annotations

from itertools import count
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..parts.ranges import at_least, between
from ..parts.registry import decoder, encoder
from ..tensors import Shape, no_autocast
from .base import Decoder, Encoder
from .embeddings import grid_positions
from .layers import Centre, Patches, Unpatch, from_latent, zeroed

Width = Annotated[int, at_least(1)]
Depth = Annotated[int, between(0, 64)]
Patch = Annotated[int, at_least(0, advice="0 chooses it by the image's size")]


class Attention(nn.Module):
    """x + f(LayerNorm(x)) with f multi-head attention among tokens (B, N, width), whose output starts at zero.

    softmax(q kᵀ/√d) v for each head (Vaswani et al., 2017, arXiv:1706.03762, Eq. 1). Queries, keys and values have no
    bias: that of the keys cancels in the softmax, and the norm has one for the others.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError(f"attention needs a number of heads that divides its width; got {heads} heads, width {width}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return x + self.out(_attended(*qkv.unbind()).transpose(1, 2).flatten(2))


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ/√d) v; in float32 for bfloat16 on a processor, where the gradient would take five times as long."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    with no_autocast(q):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(v)


class FeedForward(nn.Module):
    """x + f(LayerNorm(x)) with f a hidden layer of four times the width, whose output starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, 4 * width)
        self.second = zeroed(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))


class Positions(nn.Module):
    """Adds a learned vector for each place of a grid, which starts as waves of its row and column."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(grid_positions(grid, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class OnGrid(nn.Module):
    """Layers over tokens (B, h·w, C), applied to feature maps (B, C, h, w)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(2).mT).mT.unflatten(2, x.shape[2:])


@encoder("vit")
class ViTEncoder(Encoder):
    """Vision transformer on squares of patch×patch pixels; 0: as the latent's grid asks, or so that there are few of them.

    By itself it takes the smallest patch that leaves at most 64 squares; from 8 pixels on, at most 256.
    (Dosovitskiy et al., 2021, arXiv:2010.11929; without the class token)
    """

    def __init__(self, image_shape: Shape, grid: tuple[int, int] | None, width: Width = 128, depth: Depth = 4,
                 heads: Width = 4, patch: Patch = 0) -> None:
        super().__init__()
        patch, tokens = cut((image_shape[1], image_shape[2]), patch, grid)
        transformer = _transformer(tokens, width, depth, heads)
        self.net = nn.Sequential(Centre(), Patches(patch), nn.Conv2d(image_shape[0] * patch**2, width, 1), transformer)
        self.features = (width, *tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@decoder("vit")
class ViTDecoder(Decoder):
    """The mirror of the encoder `vit`: a transformer on the same squares, then each square's pixels from its token."""

    def __init__(self, latent_shape: Shape, out_shape: Shape, width: Width = 128, depth: Depth = 4, heads: Width = 4,
                 patch: Patch = 0) -> None:
        super().__init__()
        size = (out_shape[1], out_shape[2])
        patch, tokens = cut(size, patch, (latent_shape[1], latent_shape[2]) if len(latent_shape) == 3 else None)
        transformer = _transformer(tokens, width, depth, heads)
        pixels = nn.Conv2d(width, out_shape[0] * patch**2, 1)
        nn.init.normal_(pixels.weight, std=0.02)  # tokens are normalised: by default the first images would be strong noise
        nn.init.zeros_(pixels.bias)  # pyright: ignore[reportArgumentType]
        self.net = nn.Sequential(from_latent(latent_shape, width, tokens), transformer, pixels, Unpatch(patch, size))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


def _transformer(tokens: tuple[int, int], width: int, depth: int, heads: int) -> OnGrid:
    """Positions, `depth` blocks of attention and feed-forward, and a last norm."""
    blocks = [layer for _ in range(depth) for layer in (Attention(width, heads), FeedForward(width))]
    return OnGrid(Positions(tokens, width), *blocks, nn.LayerNorm(width))


def cut(size: tuple[int, int], patch: int, grid: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """The patch to use, and the grid of squares that an image of `size` is cut into."""
    if not patch and grid:
        patch = max(-(-side // squares) for side, squares in zip(size, grid, strict=True))
    elif not patch:
        patch = next(p for p in count(1) if -(-size[0] // p) * -(-size[1] // p) <= (64 if p < 8 else 256))
    tokens = (-(-size[0] // patch), -(-size[1] // patch))
    if grid and tokens != grid:
        raise UsageError(f"a transformer with patch={patch} cuts a {size[0]}×{size[1]} image into {tokens[0]}×{tokens[1]} "
                         f"squares, and the latent lies on {grid[0]}×{grid[1]}: leave the patch out, or make it the factor "
                         "of spatial()")
    return patch, tokens
