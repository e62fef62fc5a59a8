"""Matching the aggregate posterior to the prior by their draws."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from ...distributions.base import Reparameterized
from ...errors import UsageError
from ...models.trace import Trace, only_layer
from ...parallel import COMPANY, gathered
from ...parts import registry
from ...parts.ranges import above, one_of
from ...tensors import no_autocast
from ..context import Context
from ..objective import Term

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the inverse multiquadric kernels that are added up, so that one of them sees differences of any size."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖², (…, n, m), of points a (…, n, D) and b (…, m, D), in float32 also under autocast."""
    with no_autocast(a):
        return (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :] - 2 * a @ b.mT).clamp(min=0)


@registry.term("mmd")
def mmd(kernel: Annotated[str, one_of("imq", "rbf")] = "imq", scale: Annotated[float, above(0)] = 1.0) -> Term:
    """The squared maximum mean discrepancy between draws z of q(z) and z̃ of p(z), one number for the batch.

        1/(B(B−1)) Σ_{i≠j} [k(z_i, z_j) + k(z̃_i, z̃_j)] − 2/B² Σ_ij k(z_i, z̃_j)

    It is unbiased, hence at times negative, and not in nats: give it a weight, as in `nll + 100*mmd` (a Wasserstein
    autoencoder) or `nll + kl + 100*mmd` (InfoVAE). With C = 2 D · scale, the mean of ‖z̃ − z̃'‖² under N(0, I) at a scale
    of 1, the kernel is Σ_s sC / (sC + ‖z − z'‖²) over seven s from 0.1 to 10 for 'imq', and exp(−‖z − z'‖² / C) for 'rbf'.
    Several importance samples give the mean of as many estimates. Gradients reach a prior whose draws are differentiable.
    Of several processes each takes the rows of its own draws, against those of all.
    (Tolstikhin et al., 2018, arXiv:1711.01558; Zhao et al., 2019, arXiv:1706.02262)

    Raises:
        UsageError: another kernel, or a scale that is not above 0; on a trace, one image, several layers, codes, or a
            prior that differs from image to image.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        z, _, p = only_layer(trace, "mmd")
        n = z.shape[1]
        total = n * COMPANY.size
        if total < 2 or not z.is_floating_point():
            raise UsageError("mmd compares real numbers of at least two images with as many draws of the prior; got "
                             + (f"a batch of {total}" if total < 2 else "integer codes"))
        drawn = p.rsample(z.shape[:2]) if isinstance(p, Reparameterized) else p.sample(z.shape[:2])
        if drawn.shape != z.shape:
            raise UsageError("mmd needs one prior for all images; this model has one for each")
        a, b = z.flatten(2), drawn.flatten(2)
        c = 2 * scale * a.shape[-1]
        all_a, all_b = gathered(a, 1), gathered(b, 1)
        own = slice(COMPANY.rank * n, COMPANY.rank * n + n)

        def k(a: Tensor, b: Tensor) -> Tensor:
            d = squared_distances(a, b)
            return (-d / c).exp() if kernel == "rbf" else torch.stack([s * c / (s * c + d) for s in SCALES]).sum(0)

        def between(a: Tensor, others: Tensor) -> Tensor:
            pairs = k(a, others)
            return (pairs.sum((-2, -1)) - pairs[..., own].diagonal(dim1=-2, dim2=-1).sum(-1)) / (n * (total - 1))

        return (between(a, all_a) + between(b, all_b) - 2 * k(a, all_b).mean((-2, -1))).mean().expand(n)

    arguments = {("imq", 1.0): "", ("rbf", 1.0): "('rbf')"}.get((kernel, scale), f"({kernel!r}, {scale:.12g})")
    return Term(f"mmd{arguments}", of)
