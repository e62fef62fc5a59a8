"""DINOv2's vision transformers, trained without labels: distances between sets that agree best with people."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelFileError
from .base import Features, frozen, normalised, resized
from .weights import Weights, fill

PATCH, SIDE, GRID = 14, 224, 37
"""Pixels of a patch's side and of the images here; patches along the side of the images that it was trained on last."""
SIZES = {384: ("dinov2_vits14", 12), 768: ("dinov2_vitb14", 12), 1024: ("dinov2_vitl14", 24)}
"""Name and blocks by width."""


class PatchEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).mT


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Scale(nn.Module):
    """Layer scale. (Touvron et al., 2021, arXiv:2103.17239)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, eps=1e-6), Attention(width), Scale(width)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, eps=1e-6), Perceptron(width), Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2(nn.Module):
    """Vision transformer with 14×14 patches (Oquab et al., 2023, arXiv:2304.07193), its tensors named as published.

    `registers` are further tokens that no place owns (Darcet et al., 2023, arXiv:2309.16588).
    """

    def __init__(self, width: int, depth: int, *, registers: int = 0) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def tokens(self, x: Tensor) -> list[Tensor]:
        """What each block gives, (n, 1 + registers + patches, width), the class token first."""
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        first, places = self._positions(grid)
        patches = self.patch_embed(x) + places
        lead = [(self.cls_token + first).expand(len(x), -1, -1)]
        if self.register_tokens is not None:
            lead.append(self.register_tokens.expand(len(x), -1, -1))
        h = torch.cat([*lead, patches], 1)
        given: list[Tensor] = []
        for block in self.blocks:
            h = block(h)
            given.append(h)
        return given

    def _positions(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Of the class token and of the patches of a grid, the latter interpolated from 37×37.

        The published networks without registers are used with a scale that is off by a tenth of a patch, those with
        registers with antialiasing; both are done alike here, so that features equal theirs.
        """
        first, places = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if grid == (GRID, GRID):
            return first, places
        square = places.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2)
        if self.register_tokens is None:
            square = F.interpolate(square, scale_factor=((grid[0] + 0.1) / GRID, (grid[1] + 0.1) / GRID), mode="bicubic")
        else:
            square = F.interpolate(square, grid, mode="bicubic", antialias=True)
        return first, square.flatten(2).mT


class DINOv2Features(Features):
    """Vectors: the class token after the last norm. Maps: the patches after each quarter of the blocks, on a 16×16 grid.

    Distances under the largest of them rank generators much as people do. (Stein et al., 2023, arXiv:2306.04675)
    """

    def __init__(self, net: DINOv2, *, name: str, sha256: str) -> None:
        super().__init__(name=name, resize=f"bicubic, antialiased, to {SIDE}×{SIDE}", sha256=sha256)
        self.net = frozen(net)

    def _tokens(self, x: Tensor) -> list[Tensor]:
        return self.net.tokens(normalised(resized(x, (SIDE, SIDE), "bicubic")))

    def _embed(self, x: Tensor) -> Tensor:
        return self.net.norm(self._tokens(x)[-1][:, 0])

    def _maps(self, x: Tensor) -> list[Tensor]:
        tokens = self._tokens(x)
        quarter, side = len(tokens) // 4, SIDE // PATCH
        return [t[:, -(side**2):].mT.unflatten(2, (side, side)) for t in tokens[quarter - 1 :: quarter]]


def dinov2_features(weights: Weights, sha256: str, path: Path) -> Features:
    """Of DINOv2's weights, small, base or large.

    Raises:
        ModelFileError: another width (the giant one has other blocks), or tensors that are not DINOv2's.
    """
    width = weights["blocks.0.ls1.gamma"].shape[-1]
    if width not in SIZES:
        raise ModelFileError(f"{path} holds a transformer of width {width}; of DINOv2 ViT-S/14, B/14 and L/14 are known, "
                             f"of width {', '.join(map(str, SIZES))}")
    name, depth = SIZES[width]
    registers = weights["register_tokens"].shape[1] if "register_tokens" in weights else 0
    with torch.device("meta"):
        net = DINOv2(width, depth, registers=registers)
    fill(net, weights, path)
    return DINOv2Features(net, name=name, sha256=sha256)
