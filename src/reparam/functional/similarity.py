"""Structural similarity of images in [0, 1], as a term and for metrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError
from ..tensors import no_autocast

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales from fine to coarse (Wang et al., 2003, section 3.2)."""
FLOOR = 1e-4
"""The least that a scale counts for in a product of several, of which powers are taken."""


def ssim(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Structural similarity of images in [0, 1], 1 for equal ones and at least −1, dimensionless.

    (2μ_x μ_y + C₁)(2σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂)) with moments under an 11×11 Gaussian window of
    σ = 1.5 that lies within the image, the mean over positions and channels. A side of fewer than 11 pixels is one window.
    (Wang et al., 2004, doi:10.1109/TIP.2003.819861, Eq. 13)

    >>> x = torch.rand(2, 1, 16, 16)
    >>> [round(float(s), 4) for s in ssim(x, x)]
    [1.0, 1.0]
    """
    return _similarity(x.float(), y.float())[0].mean(-1)


def ms_ssim(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"], *, scales: int = 5) -> Float[Tensor, "n"]:
    """Similarity over up to five scales, each half the one before, dimensionless, 1 for equal images.

    (l cs)_M^{w_M} Π_{j<M} cs_j^{w_j}: contrast and structure cs of every scale and luminance l of the last, averaged over
    positions before and over channels after the product. Takes the first `scales` whose shorter side still holds a window
    (28 pixels: 2, 64: 3, from 161 on: 5), with the weights of these brought to a sum of 1; one is plain `ssim`. Halving
    averages 2×2 pixels. (Wang et al., 2003, doi:10.1109/ACSSC.2003.1292216, Eq. 7)

    Raises:
        UsageError: not 1 to 5 scales.
    """
    if not 1 <= scales <= len(WEIGHTS):
        raise UsageError(f"ms_ssim takes 1 to {len(WEIGHTS)} scales; got {scales}")
    scales = min(scales, _room(min(x.shape[-2:])))
    if scales == 1:
        return ssim(x, y)
    x, y = x.float(), y.float()
    product = torch.ones((), device=x.device)
    for j, weight in enumerate(WEIGHTS[:scales]):
        full, structure = _similarity(x, y)
        factor = full if j == scales - 1 else structure
        product = product * factor.clamp(min=FLOOR) ** (weight / sum(WEIGHTS[:scales]))
        x, y = (F.avg_pool2d(t, 2, ceil_mode=True, count_include_pad=False) for t in (x, y))
    return product.mean(-1)


def _room(side: int) -> int:
    """How many scales of a side hold a whole window, at least 1."""
    room = 1
    while -(-side // 2) >= WINDOW:
        side, room = -(-side // 2), room + 1
    return room


def _window(side: int, like: Tensor) -> Tensor:
    n = min(WINDOW, side)
    at = torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2
    return (-0.5 * (at / SIGMA) ** 2).softmax(0)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means over positions of l·cs and of cs, each (n, c)."""
    maps = torch.stack([x, y, x * x, y * y, x * y])
    with no_autocast(x):
        flat = maps.flatten(0, 2).unsqueeze(1)
        flat = F.conv2d(flat, _window(x.shape[-2], x)[None, None, :, None])
        flat = F.conv2d(flat, _window(x.shape[-1], x)[None, None, None, :])
    mx, my, xx, yy, xy = flat.squeeze(1).unflatten(0, maps.shape[:3])
    structure = (2 * (xy - mx * my) + C2) / (xx - mx**2 + yy - my**2 + C2)
    luminance = (2 * mx * my + C1) / (mx**2 + my**2 + C1)
    return (luminance * structure).mean((-2, -1)), structure.mean((-2, -1))
