"""Terms that read the critic; see `objectives/adversaries`."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from ...models.trace import Trace
from ...parts import registry
from ...parts.ranges import above, at_least
from ..context import Context
from ..objective import Term


@registry.term("adversarial")
def adversarial(balance: Annotated[float, at_least(0)] = 0.0, cap: Annotated[float, above(0)] = 1000.0) -> Term:
    """The game's loss for the model: low when its own passes for real. 0 while the critic has not begun to learn.

    Dimensionless, so its weight is in nats: beside `nll`, give it about a hundredth of the number of pixel values, and
    switch it on late, 'nll + kl + late(10)*adversarial'. With `balance` it is scaled at every step so that its gradient at
    the images is so many times that of `nll`, by a factor of at most `cap` (Esser et al., 2021, arXiv:2012.09841, Eq. 7);
    a weight before it still counts.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        if context.adversarial is None:
            return trace.x.new_zeros(len(trace.x))
        return context.adversarial.adversarial(balance, cap)

    return Term("adversarial" if not balance else f"adversarial(balance={balance:g}, cap={cap:g})", of, uses_critic=True)


@registry.term("learned_similarity")
def learned_similarity() -> Term:
    """½ |D(x) − D(x̂)|² between the critic's features of an image and of its reconstruction, summed: the negative log of a
    unit Gaussian, in nats up to a constant (Larsen et al., 2016, arXiv:1512.09300, Eq. 7). It is 0 while the critic has not
    begun to learn.

    Not their Algorithm 1: there the encoder follows the prior and this term alone, and the decoder γ times this term and the
    critic's loss. Here one objective moves both, so that a weight is the same for both, and `adversarial` reaches the
    encoder through reconstructions; with images('samples') it reaches the decoder alone.
    """

    def of(trace: Trace, context: Context) -> Tensor:
        if context.adversarial is None:
            return trace.x.new_zeros(len(trace.x))
        with torch.no_grad():
            target = context.adversarial.features(trace.x)
        return 0.5 * (context.adversarial.features(trace.px.mean[0]) - target).float().square().flatten(1).sum(1)

    return Term("learned_similarity", of, uses_critic=True)
