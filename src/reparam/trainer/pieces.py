"""One noise level for a batch that is computed in pieces, one after another or by several processes.

A likelihood that estimates its scale from the batch would otherwise estimate one for each piece, and weigh the pieces
differently than the whole batch does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import cast

import torch
from torch import Tensor

from ..distributions.gaussian import BestScale
from ..models.likelihoods import LocationScaleLikelihood
from ..models.vae import Model
from ..parallel import Processes
from ..tensors import forked_rng

Pieces = list[tuple[Tensor, Tensor | None]]
"""Images and labels of each."""


@contextlib.contextmanager
def one_scale(model: Model, pieces: Pieces, processes: Processes, samples: int, bf16: bool) -> Generator[None]:
    """A region in which a likelihood uses the best scale of the whole batch, over all pieces and all processes.

    For several pieces the errors are measured first, by a pass without gradients that draws the same noise; over processes
    they are averaged as they are computed.
    """
    likelihood = model.likelihood
    if not isinstance(likelihood, LocationScaleLikelihood) or not likelihood.finds_scale:
        yield
        return

    def over_processes(error: Tensor) -> Tensor:
        return cast(Tensor, processes.reduce(error, "mean")) if processes.num_processes > 1 else error

    try:
        if len(pieces) > 1:
            likelihood.error = over_processes(_error(model, pieces, samples, bf16))
        elif processes.num_processes > 1:
            likelihood.average = over_processes
        yield
    finally:
        likelihood.error = likelihood.average = None


@torch.no_grad()
def _error(model: Model, pieces: Pieces, samples: int, bf16: bool) -> Tensor:
    """The mean error of a batch; restores the model's buffers and the random state."""
    device = pieces[0][0].device
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    total = torch.zeros((), device=device)
    with (forked_rng(),
          torch.autocast(device.type, torch.bfloat16, enabled=bf16)):
        for x, y in pieces:
            px = model(x, samples=samples, y=y).px
            total += px.family.error(x, px.loc) * len(x) if isinstance(px, BestScale) else 0
    for buffer, before in kept:
        buffer.copy_(before)
    return total / sum(len(x) for x, _ in pieces)
