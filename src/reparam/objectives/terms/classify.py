"""The cross-entropy of the class that a semi-supervised model infers."""

from __future__ import annotations

from torch import Tensor

from ...errors import UsageError
from ...models.latents.labelled import ClassPosterior
from ...models.trace import Trace
from ...parts import registry
from ..context import Context
from ..objective import Term


def _classify(trace: Trace, context: Context) -> Tensor:
    q = trace.layers[0].q
    if not isinstance(q, ClassPosterior):
        raise UsageError("the term classify needs the latent semi_supervised, which infers classes")
    return -(q.known * q.logits.log_softmax(-1)).sum(-1)


@registry.term("classify")
def classify() -> Term:
    """−log q(y | x) of images whose label is known, nats; 0 for the others, and so averaged over all of a batch, of which a
    quarter is labelled at least. (Kingma et al., 2014, Eq. 9)"""
    return Term("classify", _classify)
