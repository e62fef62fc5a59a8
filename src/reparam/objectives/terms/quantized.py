"""Terms of quantized latents: they keep vectors near their codes, and codes in use."""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Annotated

import torch
from torch import Tensor

from ...distributions.quantized import Quantized
from ...errors import UsageError
from ...models.trace import Trace
from ...parallel import averaged
from ...parts import registry
from ...parts.ranges import above
from ...tensors import no_autocast
from ..context import Context
from ..objective import Term


def quantized(trace: Trace, term: str) -> list[Quantized]:
    """The quantised layers of a trace.

    Raises:
        UsageError: there is none.
    """
    layers = [layer.q for layer in trace.layers if isinstance(layer.q, Quantized)]
    if not layers:
        raise UsageError(f"the term {term} is for quantised latents, and this model has none: "
                         "give it --posterior vq, rvq, fsq or lfq")
    return layers


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖² of each example, (B,)."""
    return (a - b).square().flatten(1).sum(1)


def _commitment(trace: Trace, context: Context) -> Tensor:
    return torch.stack([squared_error(q.raw, q.quantized.detach()) for q in quantized(trace, "commitment")]).sum(0)


def _codebook(trace: Trace, context: Context) -> Tensor:
    return torch.stack([squared_error(q.raw.detach(), q.quantized) for q in quantized(trace, "codebook")]).sum(0)


commitment = Term("commitment", _commitment)
codebook = Term("codebook", _codebook)


@registry.term("commitment")
def _make_commitment() -> Term:
    """‖r − sg[e]‖² between the encoder's output r and its quantised value e: holds the encoder to its codes.

    Summed over the latent. (van den Oord et al., 2017, arXiv:1711.00937, Eq. 3, which weighs it by 0.25)
    """
    return commitment


@registry.term("codebook")
def _make_codebook() -> Term:
    """‖sg[r] − e‖² between the encoder's output r and its quantised value e: draws the codes to the encoder.

    Summed over the latent. For codebooks that are parameters, `vq(decay=0)`; others have no gradient. (van den Oord
    et al., 2017, arXiv:1711.00937, Eq. 3)
    """
    return codebook


@registry.term("entropy")
def entropy(temperature: Annotated[float, above(0)] = 1.0) -> Term:
    """H(q(c | x)) − H(E_x q(c | x)), summed over the codes of an example: sure of each code, and using all of them.

    q(c | x) ∝ exp(−‖r − e_c‖² / temperature) is the soft assignment of the encoder's output r to code c; its mean goes
    over the batch and the positions that share a codebook. (Yu et al., 2024, arXiv:2310.05737, section 3.1)
    """

    def of(trace: Trace, context: Context) -> Tensor:
        return torch.stack([soft_entropy(q, temperature) for q in quantized(trace, "entropy")]).sum(0)

    return Term(f"entropy({temperature:.12g})", of)


def soft_entropy(q: Quantized, temperature: float) -> Tensor:
    """Σ over codes of H(q(c | x)) − H(E_x q(c | x)), (B,), nats."""
    with no_autocast(q.raw):
        logs = [(a / temperature).log_softmax(-1) for a in q.affinities]
        each = reduce(torch.add, (-(log.exp() * log).sum(-1) for log in logs))
        low, high = (joint([log.exp() for log in half], each).transpose(0, 1).flatten(1, 2) for half in balanced(logs))
        # the mean of a product of two halves is one matrix product, whatever the number of codes
        mean = averaged(low.mT @ high / low.shape[1])
        overall = -(mean * mean.clamp(min=1e-30).log()).sum((1, 2))
        return (each - overall[:, None]).sum((1, 2))


def balanced(factors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Cuts a list of factors in two, so that the larger product of their last axes is smallest."""
    sizes = [f.shape[-1] for f in factors]
    larger = [max(prod(sizes[:i]), prod(sizes[i:])) for i in range(len(sizes) + 1)]
    cut = larger.index(min(larger))
    return factors[:cut], factors[cut:]


def joint(factors: list[Tensor], like: Tensor) -> Tensor:
    """Probabilities of all combinations of independent factors, (*like, ∏ levels)."""
    return reduce(lambda a, b: (a[..., :, None] * b[..., None, :]).flatten(-2), factors, torch.ones_like(like)[..., None])
