"""Codebooks: how many of the codes the images use."""

from __future__ import annotations

import torch
from torch import Tensor

from ..chunks import columns_in_chunks
from ..distributions.quantized import Quantized
from ..parts.registry import metric
from .catalogue import FigureType, measures
from .evaluation import Evaluation, Unavailable
from .figures import Figure


def perplexity(counts: Tensor) -> Tensor:
    """exp H of the relative frequencies in the last axis: how many equally frequent codes would be as varied."""
    p = counts.double() / counts.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1).exp()


USAGE = FigureType("codebook_usage", "Latent space", "of {total} codes", "codes of the codebook in use", "higher", least=0.0,
                   most=1.0, headline=False)
PERPLEXITY = FigureType("codebook_perplexity", "Latent space", "codes of {total}",
                        "codes of the codebook in use, by their frequencies", "higher", least=1.0, headline=False)


@metric("codebook_usage")
@measures(USAGE, PERPLEXITY)
def codebook_usage(evaluation: Evaluation) -> list[Figure]:
    """The share of codes that the images use, and the perplexity of their frequencies; for each depth of `rvq`."""
    model = evaluation.vae

    def codes_of(chunk: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer.q.by_codebook.cpu().unflatten(1, (len(chunk), -1)).transpose(0, 1)
                     for layer in model(chunk).layers if isinstance(layer.q, Quantized))

    with evaluation.drawing():
        seen = columns_in_chunks(codes_of, evaluation.x, size=evaluation.at_once)
    if not seen:
        raise Unavailable("codebook_usage is of models with a codebook, such as --posterior vq",
                          short="its posterior has no codebook")
    levels = model.latent.space.levels
    figures: list[Figure] = []
    for i, of_images in enumerate(seen):
        codes = of_images.transpose(0, 1).flatten(1)
        counts = torch.stack([c.bincount(minlength=levels) for c in codes])
        n, where = len(evaluation.x), f" of layer {i + 1}" if len(seen) > 1 else ""
        few = f"{n} images have {codes.shape[1]} codes, fewer than there are" if codes.shape[1] < levels else ""
        for kind, each in ((USAGE, (counts > 0).double().mean(-1)), (PERPLEXITY, perplexity(counts))):
            detail = tuple(round(float(v), 4) for v in each) if len(each) > 1 else None
            figures.append(kind.of(float(each.mean()), n, note=few, name=kind.name + where, total=levels, detail=detail))
    return figures
