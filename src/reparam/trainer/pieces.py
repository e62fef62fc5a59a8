"""A batch that comes in pieces, after one another or to several processes, has one noise level: the whole batch's.

Likelihoods whose scale is the best for each batch would else find another for each piece, which weighs the pieces against
each other as the whole does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from ..distributions.gaussian import BestScale
from ..models.likelihoods import LocationScaleLikelihood
from ..models.vae import Model

Pieces = list[tuple[Tensor, Tensor | None]]
"""Images and labels of each."""


@contextlib.contextmanager
def one_scale(model: nn.Module, pieces: Pieces, accelerator: Any, samples: int, bf16: bool) -> Generator[None]:
    """A region in which a likelihood takes the best scale of the whole batch, all pieces and all processes together.

    Of several pieces the errors are measured first, by a pass without gradients that draws the same noise; of processes
    they are averaged as they come.
    """
    likelihood = model.likelihood if isinstance(model, Model) else None
    if not isinstance(likelihood, LocationScaleLikelihood) or not likelihood.finds_scale:
        yield
        return

    def over_processes(error: Tensor) -> Tensor:
        return accelerator.reduce(error, "mean") if accelerator.num_processes > 1 else error

    try:
        if len(pieces) > 1:
            likelihood.error = over_processes(_error(model, pieces, samples, bf16))
        elif accelerator.num_processes > 1:
            likelihood.average = over_processes
        yield
    finally:
        likelihood.error = likelihood.average = None


@torch.no_grad()
def _error(model: nn.Module, pieces: Pieces, samples: int, bf16: bool) -> Tensor:
    """The mean error of a batch; what the model keeps count of, and random numbers, are left as they were."""
    device = pieces[0][0].device
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    total = torch.zeros((), device=device)
    with (torch.random.fork_rng([device] if device.type == "cuda" else []),
          torch.autocast(device.type, torch.bfloat16, enabled=bf16)):
        for x, y in pieces:
            px = model(x, samples=samples, y=y).px
            total += px.family.error(x, px.loc) * len(x) if isinstance(px, BestScale) else 0
    for buffer, before in kept:
        buffer.copy_(before)
    return total / sum(len(x) for x, _ in pieces)
