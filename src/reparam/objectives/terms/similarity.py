"""Structural similarity as a reconstruction term."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from ...functional.similarity import WEIGHTS, ms_ssim
from ...models.trace import Trace
from ...parts import registry
from ...parts.ranges import between
from ..context import Context
from ..objective import Term


@registry.term("ms_ssim")
def ms_ssim_term(scales: Annotated[int, between(1, len(WEIGHTS))] = 5) -> Term:
    """1 − MS-SSIM between the decoder's mean and the image (Wang et al., 2003); `ms_ssim(1)` is 1 − SSIM.

    Dimensionless, so its weight is in nats: beside `nll`, which sums over pixel values, the number of these times about a
    tenth has an effect (for 3×64×64, `nll + 1000*ms_ssim + kl`). Takes as many of the scales as the image has room for.
    """
    def of(trace: Trace, context: Context) -> Tensor:
        means = trace.px.mean
        x = trace.x.expand_as(means)
        return 1 - ms_ssim(x.flatten(0, 1), means.flatten(0, 1), scales=scales).unflatten(0, means.shape[:2]).mean(0)

    return Term(f"ms_ssim({scales})", of)
