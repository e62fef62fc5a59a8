"""The latent space: which dimensions carry information, and whether the codes lie where the prior puts them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..checkpoint import Axis
from ..distributions import Distribution, Gaussian, gaussian_kl
from ..registry import metric
from ..vae import VAE
from .evaluation import Codes, Evaluation
from .figures import Figure

ACTIVE = 0.01
"""A unit is active when more than this share of its variance comes from the image (Burda et al., 2016, section 2.3)."""


def codes_of(model: VAE, x: Tensor) -> Codes:
    """Posterior means, draws and information per dimension for images x (n, C, H, W).

    Information is the mean KL of a dimension's posterior to the prior; where the prior has no KL per dimension (a
    flow, a mixture), to a Gaussian with the mean and variance of all the codes.
    """
    means: list[Tensor] = []
    log_vars: list[Tensor] = []
    draws: list[Tensor] = []
    p: Distribution | None = None
    for chunk in x.split(250):
        layer = model(chunk).latents[0]
        p = layer.p
        means.append(layer.q.mean.flatten(1))
        log_vars.append(layer.q.log_var.flatten(1) if isinstance(layer.q, Gaussian) else torch.zeros_like(means[-1]))
        draws.append(layer.z[0].flatten(1))
    mean, log_var, draw = torch.cat(means), torch.cat(log_vars), torch.cat(draws)
    if not isinstance(p, Gaussian):
        variance = mean.var(0) + log_var.exp().mean(0)
        p = Gaussian(mean.mean(0), variance.log())
    flat = Gaussian(p.loc.flatten(), p.log_var.flatten())
    information = gaussian_kl(Gaussian(mean, log_var), flat).mean(0)
    return Codes(mean.cpu(), draw.cpu(), information.cpu())


def axes_of(codes: Codes, most: int = 256) -> tuple[Axis, ...]:
    """Latent dimensions by information, most first."""
    mean, std = codes.draw.mean(0), codes.draw.std(0)
    order = codes.information.argsort(descending=True)[:most]
    return tuple(Axis(int(i), round(float(codes.information[i]), 5), float(mean[i]), float(std[i])) for i in order)


FEWEST = 20
"""With fewer images a classifier of their codes says nothing."""


@metric("active_units")
def active_units(evaluation: Evaluation) -> list[Figure]:
    """Latent dimensions whose mean moves with the image, and the information in each."""
    codes = evaluation.codes
    share = codes.mean.var(0, correction=0) / codes.draw.var(0, correction=0).clamp(min=1e-12)
    d, n = codes.mean.shape[1], len(codes.mean)
    return [Figure("active_units", float((share > ACTIVE).sum()), f"of {d} latents", n,
                   note=f"more than {ACTIVE:.0%} of the variance of the codes comes from the image"),
            Figure("information", float(codes.information.sum()), "nats, summed over latents", n,
                   detail=tuple(round(float(v), 4) for v in codes.information[:1024]))]


@metric("prior_auc")
def prior_auc(evaluation: Evaluation, most: int = 4000) -> list[Figure]:
    """How well a small classifier tells codes of images from draws of the prior: 0.5 not at all, 1 without fail."""
    latent = evaluation.model.latent
    if len(evaluation.x) < FEWEST:
        return []
    figures = [_auc("prior_auc", evaluation, most, fitted=False)]
    if latent.fitted is not None:
        figures.append(_auc("fitted_prior_auc", evaluation, most, fitted=True))
    return figures


def _auc(name: str, evaluation: Evaluation, most: int, *, fitted: bool) -> Figure:
    """Area under the ROC curve on a held-out half, of a small MLP on standardised codes (Lopez-Paz & Oquab, 2017)."""
    from sklearn.metrics import roc_auc_score
    from sklearn.neural_network import MLPClassifier

    codes = evaluation.codes
    kept = codes.information.argsort(descending=True)[:128]
    real = codes.draw[:most, kept].numpy()
    with evaluation.drawing():
        drawn = evaluation.model.latent.generate(len(real), fitted=fitted)[0].flatten(1)[:, kept.to(evaluation.x.device)]
    both = np.concatenate([real, drawn.cpu().numpy()])
    both = np.clip((both - real.mean(0)) / (real.std(0) + 1e-6), -10, 10)
    label = np.repeat([1, 0], len(real))
    train = np.random.default_rng(evaluation.seed).permutation(len(both)) < len(both) // 2
    classifier = MLPClassifier((64,), max_iter=40, early_stopping=True, n_iter_no_change=5, random_state=0)
    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a classifier that has not converged is a weaker one; its score stands
        classifier.fit(both[train], label[train])
    auc = float(roc_auc_score(label[~train], np.asarray(classifier.predict_proba(both[~train]))[:, 1]))
    return Figure(name, max(auc, 1 - auc), "AUC, 0.5 is a perfect match", len(real))
