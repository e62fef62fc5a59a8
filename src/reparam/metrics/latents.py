"""The latent space: which dimensions carry information, and whether the codes lie where the prior puts them."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..chunks import in_chunks, of_each
from ..distributions.point import Point
from ..distributions.quantized import Quantized
from ..functional.intervals import of_share
from ..functional.two_sample import DRAWS, IMAGES, LEAST, PRIOR, told_apart
from ..models.codes import Codes
from ..models.latents import SemiSupervised
from ..models.posteriors.hamiltonian import Hamiltonian
from ..models.priors import Prior
from ..models.vae import VAE
from ..parts.registry import metric
from ..tensors import evenly
from ..text import counted
from .catalogue import FigureType, measures
from .evaluation import FEWEST, Evaluation, Unavailable
from .figures import Figure

ACTIVE = 0.01
"""A unit is active when more than this share of its variance comes from the image (Burda et al., 2016, section 2.3)."""


def active_share(codes: Codes) -> Tensor:
    """The share of each dimension's variance (D,) that comes from the image, whatever the dimension is measured in."""
    return codes.mean.var(0, correction=0) / codes.draw.var(0, correction=0).clamp(min=1e-30)


ACTIVE_UNITS = FigureType("active_units", "Latent space", "of {total} latents", "latents in use",
                          why_neither="how many are needed depends on the images", least=0.0)
INFORMATION = FigureType("information", "Latent space", "nats, summed over latents", "information in the codes",
                         why_neither="more of it is paid for by the bound's KL",
                         absent="codes without noise hold information without a bound")


@metric("active_units")
@measures(ACTIVE_UNITS, INFORMATION)
def active_units(evaluation: Evaluation) -> list[Figure]:
    """Latent dimensions whose mean moves with the image, and the information in each."""
    if len(evaluation.x) < FEWEST:
        raise Unavailable(counted(len(evaluation.x), "image is", "images are")
                          + f" too few to say which latents move with them; {FEWEST} at least")
    codes = evaluation.codes
    share = active_share(codes)
    d, n = codes.mean.shape[1], len(codes.mean)
    active = ACTIVE_UNITS.of(float((share > ACTIVE).sum()), n, total=d,
                             note=f"more than {ACTIVE:.0%} of the variance of the codes comes from the image")
    if torch.equal(codes.mean, codes.draw):  # points: information without noise has no bound
        return [active]
    return [active, INFORMATION.of(float(codes.information.sum()), n,
                                   detail=tuple(round(float(v), 4) for v in codes.information[:1024]))]


PRIOR_AUC = FigureType("prior_auc", "Latent space", "AUC, 0.5 is a perfect match",
                       "how well a classifier separates codes from draws of the model's own prior, 0.5 not at all", "lower",
                       least=0.5, most=1.0, null=0.5)
FITTED_PRIOR_AUC = replace(PRIOR_AUC, name="fitted_prior_auc", absent="no prior was fitted to its codes",
                           meaning="how well a classifier separates codes from draws of the fitted prior, 0.5 not at all")


@metric("prior_auc")
@measures(PRIOR_AUC, FITTED_PRIOR_AUC)
def prior_auc(evaluation: Evaluation, most: int = 4000) -> list[Figure]:
    """How well a classifier tells codes of unseen images from draws of the prior: 0.5 not at all, 1 without fail.

    It learns from 48 images and 8 draws of each one's posterior, however many images there are, so that the figure of one
    model is the same of few images and of many (`functional.two_sample.told_apart`). Of the 128 most informative latents.
    """
    n = len(evaluation.x)
    if n < LEAST:
        raise Unavailable(f"prior_auc needs {LEAST} images at least, 48 to teach a classifier and others to judge it by; "
                          f"got {n}")
    rows = evenly(n, min(n, most))
    kept = evaluation.codes.information.argsort(descending=True)[:128]
    with evaluation.drawing():
        codes = in_chunks(lambda chunk: _draws(evaluation.vae, chunk).cpu()[..., kept], evaluation.x[rows],
                          size=evaluation.at_once)
    figures = [_auc(PRIOR_AUC, evaluation, codes, kept, None)]
    if (fitted := evaluation.sampler.fitted_prior) is not None:
        figures.append(_auc(FITTED_PRIOR_AUC, evaluation, codes, kept, fitted))
    return figures


def _draws(model: VAE, x: Tensor) -> Tensor:
    """So many draws of each image's posterior as a classifier learns from, (n, DRAWS, D)."""
    seen = model.observe(x)
    return torch.stack([model.latent.code(seen, sample=True).flatten(1) for _ in range(DRAWS)], 1)


def _auc(kind: FigureType, evaluation: Evaluation, codes: Tensor, kept: Tensor, prior: Prior | None) -> Figure:
    """Of codes told from draws of `prior`, None for the model's own."""
    latent = evaluation.vae.latent
    with evaluation.drawing():
        drawn = torch.cat([z for z, in of_each(lambda n: (latent.generate(n, prior=prior)[0].flatten(1).cpu()[:, kept],),
                                               [PRIOR // 8] * 8)])
    found = told_apart(codes.numpy(), drawn.numpy(), seed=evaluation.seed)
    return kind.of(found.value, len(codes), of_share(found.value, found.error),
                   f"by classifiers trained on {IMAGES} images, tested on others")


ACCURACY = FigureType("accuracy", "Latent space", "of the images", "images whose class is inferred rightly", "higher",
                      least=0.0, most=1.0)


@metric("accuracy")
@measures(ACCURACY)
def accuracy(evaluation: Evaluation) -> list[Figure]:
    """Share of images whose class a semi-supervised model infers rightly."""
    model, y = evaluation.vae, evaluation.y
    latent = model.latent
    if not isinstance(latent, SemiSupervised) or y is None or not (y >= 0).any():
        raise Unavailable("accuracy is of a semi-supervised model, such as --latent \"semi_supervised(16, 10)\", on images "
                          "with labels", short="it infers no classes" if y is not None else "the images have no labels")
    with evaluation.drawing():
        inferred = in_chunks(lambda x: latent.probabilities(model.encoder(x)).argmax(1), evaluation.x,
                             size=evaluation.at_once)
    right = (inferred == y)[y >= 0].float().cpu()
    return [ACCURACY.mean(right, "class inferred from the image alone")]


MUTUAL_INFORMATION = FigureType("mutual_information", "Latent space", "nats",
                                "information of a code about which image it is of",
                                why_neither="more of it is paid for by the bound's KL")
MARGINAL_KL = FigureType("kl of all codes together", "Latent space", "nats",
                         "KL divergence of the aggregate posterior, all codes together, from the prior", "lower", null=0.0,
                         headline=False)


@metric("mutual_information")
@measures(MUTUAL_INFORMATION, MARGINAL_KL)
def mutual_information(evaluation: Evaluation, most: int = 2000) -> list[Figure]:
    """Information of a code about which image it is of, and the distance of all codes together from the prior.

    I = E[log q(z | x) − log q(z)] and KL(q(z) ‖ p(z)) = KL(q(z | x) ‖ p(z)) − I with one draw of each image and
    q(z) = 1/n Σ_i q(z | x_i) over the images, so that I is at most log n: where it comes near that, the second figure is an
    upper bound only. On `most` evenly spaced images, of one layer with a density. (Hoffman & Johnson, 2016, "ELBO surgery")
    """
    model = evaluation.vae
    n = min(most, len(evaluation.x))
    if n < FEWEST:
        raise Unavailable(counted(n, "image is", "images are") + f" too few for the information of codes; {FEWEST} at least")
    x = evaluation.x[evenly(len(evaluation.x), n)]
    with evaluation.drawing():
        _, layers = model.latent.infer(model.observe(x, evaluation.at_once), 1)
        if len(layers) != 1 or isinstance(layers[0].q, Point | Quantized | Hamiltonian):
            raise Unavailable("the information of codes is measured of one layer of draws whose density is known anywhere; "
                              "this model has " + ("several layers" if len(layers) > 1 else "one that is no such"))
        z, q, p = layers[0]
        of_own = q.log_prob(z)[0]
        of_all = torch.cat([torch.logsumexp(q.log_prob(rows.unsqueeze(1).expand(-1, n, *z.shape[2:])), 1)
                            for rows in z[0].split(max(2**22 // (n * z[0, 0].numel()), 1))]) - math.log(n)
        prior = p.log_prob(z)[0]
    note = f"at most log n = {math.log(n):.2f} nats"
    return [MUTUAL_INFORMATION.mean((of_own - of_all).cpu(), note),
            MARGINAL_KL.mean((of_all - prior).cpu(), "0 where they follow the prior")]
