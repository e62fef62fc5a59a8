"""Smoothness of the decoder at the codes: for deterministic models, and for latents that a second model must learn.

These terms decode the trace's features again, with their derivatives or after a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...distributions.base import Distribution
from ...errors import UsageError
from ...models.trace import Trace
from ...parallel import averaged
from ...parts import registry
from ...parts.ranges import above, at_least, one_of
from ..context import Context
from ..objective import Term

Pull = Callable[[Tensor], tuple[Tensor]]
"""From v in the space of images to Jᵀv, J the Jacobian of the decoder's mean."""


def _decoder(trace: Trace) -> tuple[Tensor, Callable[[Tensor], Distribution]]:
    if trace.decoder_input is None or trace.decode is None:
        raise UsageError("this term decodes once more, and the trace holds no features or no decoder: give both")
    return trace.decoder_input, trace.decode


def _pull(trace: Trace) -> Pull:
    """Reverse twice, not forward over reverse: every layer and the compiler know it, but for fused attention."""
    features, decode = _decoder(trace)
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.vjp(lambda f: decode(f).mean, features)[1]


def _square(t: Tensor) -> Tensor:
    """‖t‖² per sample and example, (K, B)."""
    return t.float().square().flatten(2).sum(-1)


@registry.term("gradient_penalty")
def gradient_penalty(projections: Annotated[int, at_least(1)] = 1) -> Term:
    """‖J‖_F², J the Jacobian of the decoder's mean in its features (RAE-GP: Ghosh et al., 2020, arXiv:1903.12436).

    Estimated by E_v ‖Jᵀv‖² with random signs v (Hutchinson, 1989, doi:10.1080/03610918908812806), the mean of
    `projections` draws, each without bias and of variance 2 Σ_{i≠j} (JJᵀ)_ij². In squared pixel values per squared unit
    of the features.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        pull = _pull(trace)
        draws = [_square(pull(2 * torch.randint_like(trace.px.mean, 2) - 1)[0]) for _ in range(projections)]
        return torch.stack(draws).mean((0, 1))

    return Term(f"gradient_penalty({projections})", of)


@registry.term("spectral_penalty")
def spectral_penalty(steps: Annotated[int, at_least(1)] = 3) -> Term:
    """σ_max(J)², J the Jacobian of the decoder's mean in its features: the most that a small step in them can change.

    ‖Jᵀv‖² at the unit vector v that `steps` of power iteration on JJᵀ reach from a random one: never above the true
    value, closer with every step, and with its gradient at the singular vector. (Yoshida & Miyato, 2017, arXiv:1705.10941,
    for one layer's weights; here for the whole decoder at each code.) In squared pixel values per squared unit of the
    features.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        pull = _pull(trace)
        v = torch.randn_like(trace.px.mean)
        with torch.no_grad():
            push = torch.func.vjp(lambda v: pull(v)[0], v)[1]
            for _ in range(steps):
                v = push(pull(v)[0])[0]
                v = v / _square(v).sqrt().clamp(min=1e-30)[..., None, None, None]
        return _square(pull(v)[0]).mean(0)

    return Term(f"spectral_penalty({steps})", of)


@registry.term("latent_noise")
def latent_noise(scale: Annotated[float, above(0, advice="A tenth is little, one is much")] = 0.1) -> Term:
    """−E_ε[log p(x | f + scale·s·ε)], ε ~ N(0, I): the distortion when the features f that the decoder reads are jittered.

    s is each dimension's standard deviation over the batch (each channel's, of spatial features), a constant to the
    gradient, so that no model escapes by larger codes. To second order in the scale it is `nll` plus ½ scale² Σ_d s_d² times
    the second derivative of −log p(x | f) in f_d, which is Tikhonov's regularisation (Bishop, 1995,
    doi:10.1162/neco.1995.7.1.108). Beside `nll` or in its place; nats per example.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        features, decode = _decoder(trace)
        spread = _variance(features.detach(), [d for d in range(features.dim()) if d != 2]).sqrt()
        return -decode(features + scale * spread * torch.randn_like(features)).log_prob(trace.x).mean(0)

    return Term(f"latent_noise({scale:.12g})", of)


def _variance(t: Tensor, dims: list[int]) -> Tensor:
    """Over some axes and all processes: the mean of the variances of each, and the variance of their means."""
    within, mean = torch.var_mean(t, dims, correction=0, keepdim=True)
    return averaged(within + (mean - averaged(mean)).square())


@registry.term("equivariance")
def equivariance(target: Annotated[str, one_of("reconstruction", "image")] = "reconstruction") -> Term:
    """How far decoding turned features is from turning the decoded image (EQ-VAE: Kouzelis et al., 2025, arXiv:2502.09509).

    T turns each example by 90°, 180° or 270°, drawn anew; images that are not square are turned by 180° or mirrored. With
    the target 'reconstruction' the term is ‖mean p(x | Tf) − T mean p(x | f)‖² over all pixel values; with 'image' it is
    −log p(Tx | Tf), in nats, what EQ-VAE trains on. That paper also scales features; the decoders here enlarge to the
    size of the images that they were built for, so scaling is left out.

    Raises:
        UsageError: features without a grid, or a grid that does not divide the image, so that turning it is not turning
            the image.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        features, decode = _decoder(trace)
        grid, size = features.shape[3:], trace.x.shape[2:]
        if len(grid) != 2:
            raise UsageError("equivariance turns the features like an image, and a flat latent has no sides to turn: "
                             "use a latent such as spatial(4, 4)")
        if size[0] % grid[0] or size[1] % grid[1]:
            raise UsageError(f"equivariance turns the features like an image, and a grid of {grid[0]}×{grid[1]} does not "
                             f"divide {size[0]}×{size[1]} pixels: give spatial() a factor that does")
        square = grid[0] == grid[1] and size[0] == size[1]
        which = torch.randint(3, (len(trace.x), 1, 1, 1), device=trace.x.device)
        px = decode(_turned(features, which, square))
        if target == "image":
            return -px.log_prob(_turned(trace.x, which, square)).mean(0)
        return _square(px.mean - _turned(trace.px.mean, which, square)).mean(0)

    return Term(f"equivariance({target!r})", of)


def _turned(t: Tensor, which: Tensor, square: bool) -> Tensor:
    """Turns example b of (…, B, C, H, W) in the way of the three that `which` (B, 1, 1, 1) names."""
    if square:
        first, second, third = (t.rot90(i, (-2, -1)) for i in (1, 2, 3))
    else:
        first, second, third = t.flip(-1), t.flip(-1, -2), t.flip(-2)
    return torch.where(which == 0, first, torch.where(which == 1, second, third))
