"""Distance of two images in a feature network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Features


def perceptual_distance(features: Features, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Σ_l d_l(φ_l(x), φ_l(y)) over the depths l of the features φ, 0 for equal images, dimensionless.

    d is the features' own: for networks the squared distance of unit vectors along the channels, the mean over places,
    which is LPIPS with every weight 1 (Zhang et al., 2018, arXiv:1801.03924, Eq. 1, there the 'baseline' without learned
    weights), and at most 4 for each depth; for `wavelets` the mean absolute difference.

    Raises:
        UsageError: not floating-point images (n, C, H, W).
    """
    return torch.stack([features.compare(a, b) for a, b in zip(features.maps(x), features.maps(y), strict=True)]).sum(0)
