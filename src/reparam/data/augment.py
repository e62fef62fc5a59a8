"""Random changes to a batch of training images, on the device: 'flip', 'crop(2)', or their sum 'flip + crop(2)'."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import registry
from ..errors import UsageError
from ..recipe import parse_sum

Augmentation = Callable[[Tensor], Tensor]
"""From (B, C, H, W) to the same."""


@registry.augmentation("flip")
def flip() -> Augmentation:
    """Mirrors half of the images left to right."""

    def apply(x: Tensor) -> Tensor:
        mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(mirrored, x.flip(-1), x)

    return apply


@registry.augmentation("crop")
def crop(pixels: int) -> Augmentation:
    """Shifts each image by up to `pixels` in both directions, continuing its border outwards."""
    if pixels < 1:
        raise UsageError(f"crop({pixels}): give at least one pixel")

    def apply(x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        padded = F.pad(x, (pixels,) * 4, mode="replicate")
        top, left = torch.randint(0, 2 * pixels + 1, (2, b), device=x.device)
        rows = (top[:, None] + torch.arange(h, device=x.device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(w, device=x.device))[:, None, None, :]
        batch = torch.arange(b, device=x.device)[:, None, None, None]
        channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
        return padded[batch, channel, rows, columns]

    return apply


def parse_augmentation(text: str) -> Augmentation | None:
    """Reads 'flip + crop(2)'; 'none' is None.

    Raises:
        UsageError: an unknown change, or a weight before one.
    """
    if text == "none":
        return None
    steps: list[Augmentation] = []
    for weight, call in parse_sum(text):
        if weight != 1:
            raise UsageError(f"{text!r}: a random change takes no weight")
        steps.append(registry.augmentation.make(call))

    def apply(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return apply
