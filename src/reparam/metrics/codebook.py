"""Codebooks: how many of the codes the images use."""

from __future__ import annotations

import torch
from torch import Tensor

from ..distributions.quantized import Quantized
from ..parts.registry import metric
from .evaluation import Evaluation
from .figures import Figure


def perplexity(counts: Tensor) -> Tensor:
    """exp H of the relative frequencies in the last axis: how many equally frequent codes would be as varied."""
    p = counts.double() / counts.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1).exp()


@metric("codebook_usage")
def codebook_usage(evaluation: Evaluation) -> list[Figure]:
    """The share of codes that the images use, and the perplexity of their frequencies; for each depth of `rvq`."""
    model = evaluation.vae
    seen: dict[int, list[Tensor]] = {}
    with evaluation.drawing():
        for chunk in evaluation.x.split(250):
            for i, layer in enumerate(model(chunk).layers):
                if isinstance(layer.q, Quantized):
                    seen.setdefault(i, []).append(layer.q.by_codebook.cpu())
    levels = model.latent.space.levels
    figures: list[Figure] = []
    for i, chunks in seen.items():
        codes = torch.cat(chunks, 1)
        counts = torch.stack([c.bincount(minlength=levels) for c in codes])
        n, where = len(evaluation.x), f" of layer {i + 1}" if len(seen) > 1 else ""
        few = f"{n} images have {codes.shape[1]} codes, fewer than there are" if codes.shape[1] < levels else ""
        for name, each, unit in (("codebook_usage", (counts > 0).double().mean(-1), f"of {levels} codes"),
                                 ("codebook_perplexity", perplexity(counts), f"codes of {levels}")):
            detail = tuple(round(float(v), 4) for v in each) if len(each) > 1 else None
            figures.append(Figure(name + where, float(each.mean()), unit, n, note=few, detail=detail))
    return figures
