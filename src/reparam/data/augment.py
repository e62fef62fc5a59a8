"""Random changes to a batch of images, on the device: 'flip', 'crop(2)', or their sum 'flip + crop(2)'.

For training images, or for all that a critic sees; they are differentiable in the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError
from ..parts import registry
from ..parts.call import parse_sum
from ..parts.ranges import Interval, at_least, between

Augmentation = Callable[[Tensor], Tensor]
"""From (B, C, H, W) to the same."""
Share = Annotated[float, Interval(0, 1, above=True, below=True)]
"""Of an image's side."""
AUGMENTATIONS: registry.Role[Augmentation] = registry.augmentation


@registry.augmentation("flip")
def flip() -> Augmentation:
    """Mirrors half of the images left to right."""

    def apply(x: Tensor) -> Tensor:
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(mirrored, x.flip(-1), x)

    return apply


@registry.augmentation("crop")
def crop(pixels: Annotated[int, at_least(1)]) -> Augmentation:
    """Shifts each image by up to `pixels` in both directions, continuing its border outwards."""

    def apply(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        padded = F.pad(x, (pixels,) * 4, mode="replicate")
        top, left = torch.randint(0, 2 * pixels + 1, (2, b), device=x.device)
        return _windows(padded, [top, left], (h, w))

    return apply


@registry.augmentation("affine")
def affine(degrees: Annotated[float, between(0, 180)] = 15.0, stretch: Annotated[float, between(0, 0.5)] = 0.15,
           slant: Annotated[float, between(0, 1)] = 0.3, shift: Annotated[float, between(0, 0.5)] = 0.07) -> Augmentation:
    """Turns each image by up to `degrees`, stretches its sides by up to the share `stretch`, slants it by up to `slant` of
    its height and shifts it by up to the share `shift` of its sides, continuing its border outwards: as hands differ."""

    def apply(x: Tensor) -> Tensor:
        turn, wide, high, lean, right, down = torch.empty(6, len(x), device=x.device).uniform_(-1, 1)
        cos, sin = (turn * math.radians(degrees)).cos(), (turn * math.radians(degrees)).sin()
        wide, high, lean, sides = 1 + stretch * wide, 1 + stretch * high, slant * lean, x.shape[-2] / x.shape[-1]
        of_column = [cos * wide, sides * (cos * lean - sin * high), 2 * shift * right]  # a grid counts in halves of sides
        of_row = [sin * wide / sides, sin * lean + cos * high, 2 * shift * down]
        matrices = torch.stack([torch.stack(of_column, 1), torch.stack(of_row, 1)], 1)
        grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(0, 1)

    return apply


@registry.augmentation("color")
def color() -> Augmentation:
    """Changes brightness, saturation and contrast of each image, beyond [0, 1] too: for a critic (Zhao et al., 2020,
    arXiv:2006.10738)."""

    def apply(x: Tensor) -> Tensor:
        shift, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
        x = x + 0.5 * (shift - 0.5)
        grey = x.mean(1, keepdim=True)
        x = grey + 2 * saturation * (x - grey)
        middle = x.mean((1, 2, 3), keepdim=True)
        return middle + (0.5 + contrast) * (x - middle)

    return apply


@registry.augmentation("translate")
def translate(share: Share = 0.125) -> Augmentation:
    """Shifts each image by up to `share` of its side in both directions, with black coming in (Zhao et al., 2020)."""
    def apply(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        reach = max(round(share * h), 1), max(round(share * w), 1)
        padded = F.pad(x, (reach[1], reach[1], reach[0], reach[0]))
        return _windows(padded, [torch.randint(0, 2 * r + 1, (b,), device=x.device) for r in reach], (h, w))

    return apply


@registry.augmentation("cutout")
def cutout(share: Share = 0.5) -> Augmentation:
    """Blackens a square of `share` of each image's side, anywhere, in part beyond its border too (Zhao et al., 2020)."""
    def apply(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        hidden: list[Tensor] = []
        for side in (h, w):
            centre = torch.rand(b, 1, device=x.device) * side
            hidden.append((torch.arange(side, device=x.device) + 0.5 - centre).abs() < share * side / 2)
        return x * ~(hidden[0][:, None, :, None] & hidden[1][:, None, None, :])

    return apply


def _windows(padded: Tensor, corner: list[Tensor], size: tuple[int, int]) -> Tensor:
    """From each image (B, C, ·, ·) the window of `size` whose first row and column are at `corner`."""
    device = padded.device
    rows = (corner[0][:, None] + torch.arange(size[0], device=device))[:, None, :, None]
    columns = (corner[1][:, None] + torch.arange(size[1], device=device))[:, None, None, :]
    batch = torch.arange(len(padded), device=device)[:, None, None, None]
    channel = torch.arange(padded.shape[1], device=device)[None, :, None, None]
    return padded[batch, channel, rows, columns]


LEAVES_RANGE = ("color",)
"""Changes after which pixels may lie outside [0, 1]."""


def parse_augmentation(text: str, *, for_critic: bool = False) -> Augmentation | None:
    """Reads 'flip + crop(2)'; 'none' is None.

    Raises:
        UsageError: an unknown change, a weight before one, or one that is for critics alone.
    """
    if text == "none":
        return None
    steps: list[Augmentation] = []
    for weight, call in parse_sum(text):
        if weight != 1:
            raise UsageError(f"{text!r}: a random change takes no weight")
        if call.name in LEAVES_RANGE and not for_critic:
            raise UsageError(f"{call.name} takes pixels out of their range, which only a critic can bear: give it as "
                             f"--critic-augment {call.name}")
        steps.append(AUGMENTATIONS.make(call))

    def apply(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return apply
