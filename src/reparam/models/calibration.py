"""The likelihood's scale, from images."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import at_once, forked_rng
from .vae import VAE, Model


@torch.no_grad()
def calibrate_likelihood(model: Model, x: Tensor, seed: int = 0) -> None:
    """Fixes the likelihood's scale as the best one for images x (n, C, H, W) and one posterior draw each.

    Does nothing for a model without an encoder.
    """
    if not isinstance(model, VAE):
        return
    with forked_rng():
        torch.manual_seed(seed)
        chunks = x.split(at_once(x.shape))
        means = torch.cat([model.decode(model.encode(chunk, sample=True)[None]).mean[0] for chunk in chunks])
    model.likelihood.calibrate(means, x)
