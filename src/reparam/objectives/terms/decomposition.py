"""What the rate is made of, and the aggregate posterior's covariance: objectives that disentangle.

    E_x KL(q(z | x) ‖ p(z)) = KL(q(z, x) ‖ q(z) p(x)) + KL(q(z) ‖ Π_j q(z_j)) + [Σ_j E log q(z_j) − E log p(z)]
                            =          mi             +          tc           +              dwkl

with the aggregate posterior q(z) = (1/N) Σ_n q(z | x_n) over the N training images. β-TCVAE is `nll + mi + 6*tc + dwkl`,
or at a third of the cost and with less noise, since the three add up to the KL, `nll + kl + 5*tc`.
(Chen et al., 2018, arXiv:1802.04942, Eq. 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from ...distributions.gaussian import Gaussian, Laplace
from ...errors import UsageError
from ...models.trace import Layer, Trace, only_layer
from ...parallel import COMPANY, averaged, gathered
from ...parts import registry
from ...parts.ranges import one_of
from ...tensors import no_autocast
from ..context import Context
from ..objective import Term

Estimator = Annotated[str, one_of("mss", "mws", advice="mss is minibatch-stratified sampling, mws minibatch-weighted")]


def log_shares(estimator: str, batch: int, dataset_size: int, like: Tensor) -> Tensor:
    """log w_bi, (B, B): the share of image i in the estimate of q(z) at a draw z of image b. Of several processes each has
    the rows of its own images.

    'mss', minibatch-stratified sampling: 1/N for b itself, and the rest in equal parts for the others. It estimates q(z)
    without bias, and is exact when the batch is the whole data set. The paper gives one of the others a share of its own;
    this is the mean over which one it is: the same expectation, less variance.

    'mws', minibatch-weighted sampling: 1/(N B) for all. At a batch that is the whole data set this is q(z) / N, so that mi
    is too large by log N, tc by (D − 1) log N, and dwkl too small by D log N; gradients are exact there.
    (Chen et al., 2018, Appendix C)
    """
    n, rows = max(dataset_size, batch), batch // COMPANY.size
    if estimator == "mws":
        return like.new_full((rows, batch), -math.log(n * batch))
    shares = like.new_full((rows, batch), math.log(max(n - 1, 1) / (n * max(batch - 1, 1))))
    shares.diagonal(COMPANY.rank * rows).fill_(-math.log(n))
    return shares


def of_all_processes(q: Gaussian | Laplace) -> Gaussian | Laplace:
    """The posteriors of the images of all processes."""
    return replace(q, **{name: gathered(t) for name, t in vars(q).items() if isinstance(t, Tensor)})


Densities = Callable[[Layer, Tensor, Tensor], Tensor]
"""From a layer, log q(z_j | x_i) of every draw under every image's posterior (K, B, B, D), and log w (B, B), to (K, B). Of
several processes each has draws of its own images, under the posteriors of all."""


def _log_q(units: Tensor, shares: Tensor) -> Tensor:
    """log q(z) at each draw, (K, B)."""
    return torch.logsumexp(shares + units.sum(-1), -1)


def _log_marginals(units: Tensor, shares: Tensor) -> Tensor:
    """Σ_j log q(z_j) at each draw, (K, B)."""
    return torch.logsumexp(shares[..., None] + units, -2).sum(-1)


def _part(name: str, estimator: str, of: Densities) -> Term:

    def value(trace: Trace, context: Context) -> Tensor:
        layer = only_layer(trace, name)
        z, q, _ = layer
        if not isinstance(q, Gaussian | Laplace):
            raise UsageError(f"{name} needs log q(z_j | x) of each latent dimension j, which a {type(q).__name__} does not "
                             "have: use the posterior gaussian")
        units = replace(of_all_processes(q), event_dims=0).log_prob(z.unsqueeze(2)).flatten(3)
        return of(layer, units, log_shares(estimator, units.shape[2], context.dataset_size, units)).mean(0)

    return Term(name if estimator == "mss" else f"{name}({estimator!r})", value)


@registry.term("mi")
def mi(estimator: Estimator = "mss") -> Term:
    """E[log q(z | x) − log q(z)]: the information between image and latent.

    The estimator of q(z) from a batch is 'mss' or 'mws' (see `log_shares`). (Chen et al., 2018, arXiv:1802.04942)
    """
    return _part("mi", estimator, lambda layer, units, shares: layer.q.log_prob(layer.z) - _log_q(units, shares))


@registry.term("tc")
def tc(estimator: Estimator = "mss") -> Term:
    """E[log q(z) − Σ_j log q(z_j)]: the total correlation, 0 when latent dimensions are independent over all images.

    The estimator of q(z) from a batch is 'mss' or 'mws' (see `log_shares`). (Chen et al., 2018, arXiv:1802.04942)
    """
    return _part("tc", estimator, lambda _, units, shares: _log_q(units, shares) - _log_marginals(units, shares))


@registry.term("dwkl")
def dwkl(estimator: Estimator = "mss") -> Term:
    """E[Σ_j log q(z_j) − log p(z)]: how far each dimension is from the prior.

    Σ_j KL(q(z_j) ‖ p(z_j)) for a prior that factorises, such as normal; another prior's own dependence counts here too.
    The estimator of q(z) from a batch is 'mss' or 'mws' (see `log_shares`). (Chen et al., 2018, arXiv:1802.04942)
    """
    return _part("dwkl", estimator, lambda layer, units, shares: _log_marginals(units, shares) - layer.p.log_prob(layer.z))


@registry.term("dip")
def dip(kind: Annotated[int, one_of(1, 2)] = 2, off_diagonal: float = 10.0, diagonal: float = 10.0) -> Term:
    """λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)²: pulls a covariance C of the codes to the identity; goes beside the KL.

    C = Cov_x[μ(x)] for kind 1, where λ_d = 10 λ_od is usual, and C = Cov_q[z] = E_x[diag σ²(x)] + Cov_x[μ(x)] for kind 2;
    the batch stands for all images, with divisor B. (Kumar et al., 2018, arXiv:1711.00848)

    Raises:
        UsageError: another kind; on a trace, several layers, or for kind 2 a posterior that is not Gaussian.
    """
    name = f"dip({kind}, {off_diagonal:.12g}, {diagonal:.12g})"

    def of(trace: Trace, context: Context) -> Tensor:
        q = only_layer(trace, name).q
        mean = q.mean.flatten(1)
        centred = mean - averaged(mean.mean(0))
        with no_autocast(mean):
            covariance = averaged(centred.mT @ centred / len(mean))
        if kind == 2:
            if not isinstance(q, Gaussian):
                raise UsageError(f"{name} needs the variances of a Gaussian posterior, and this one is a "
                                 f"{type(q).__name__}: use the posterior gaussian, or dip(1)")
            covariance = covariance + averaged(q.log_var.exp().flatten(1).mean(0)).diag()
        variances = covariance.diagonal()
        value = (off_diagonal * (covariance.square().sum() - variances.square().sum())
                 + diagonal * (variances - 1).square().sum())
        return value.expand(len(trace.x))

    return Term(name, of)
