"""Equations that the parts must satisfy, each checked by another way to the same number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.distributions import Normal

from reparam.distributions.base import kl
from reparam.distributions.gaussian import BestScale, Gaussian, Laplace, gaussian_kl
from reparam.distributions.pixels import Bernoulli, LogisticMixture
from reparam.models.likelihoods import GaussianLikelihood, LaplaceLikelihood, LogisticLikelihood
from reparam.models.priors import Flow, Mixture
from reparam.models.space import Space
from reparam.models.trace import Layer, Trace, log_weight
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms import free_bits, iw_bound, nll
from reparam.objectives.terms import kl as kl_term
from reparam.parts.registry import ROLES

LEVELS = torch.arange(256.0, dtype=torch.float64) / 255
F64 = {"dtype": torch.float64}
every_prior = pytest.mark.parametrize(
    "name", sorted(n for n, p in ROLES["prior"].parts.items() if p.covers == ("real",) and p.joint))
"""Densities over real numbers that a model can learn with; those fitted after it, or elsewhere, have tests of their own."""


def grid(half_width, n, dims):
    """Mid-points of a grid on [−w, w]^dims, (n^dims, dims), and the volume of a cell."""
    edges = torch.linspace(-half_width, half_width, n + 1, **F64)
    axis = (edges[1:] + edges[:-1]) / 2
    points = torch.cartesian_prod(*[axis] * dims).reshape(-1, dims)
    return points, (2 * half_width / n) ** dims


def moved(module, by=0.3):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn_like(p))
    return module


def logistic_mixture(m, c, h=1, w=1, log_scale=(-4.0, 0.0), batch=()):
    return LogisticMixture(torch.log_softmax(torch.randn(*batch, m, 1, h, w, **F64), -4),
                           torch.rand(*batch, m, c, h, w, **F64) * 2.4 - 1.2,
                           torch.empty(*batch, m, c, h, w, **F64).uniform_(*log_scale),
                           torch.randn(*batch, m, c, c, h, w, **F64).movedim((-4, -3), (-2, -1)).tril(-1)
                           .movedim((-2, -1), (-4, -3)))


# Divergences


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_closed_kl_agrees_with_monte_carlo(shape):
    q = Gaussian(torch.randn(4, *shape, **F64), torch.randn(4, *shape, **F64), len(shape))
    p = Gaussian(torch.randn(shape, **F64), torch.randn(shape, **F64), len(shape))
    z = q.rsample((40_000,))
    logs = q.log_prob(z) - p.log_prob(z)
    error = logs.std(0) / math.sqrt(len(z))
    closed = kl(q, p, z)
    assert closed.shape == (len(z), 4)
    assert torch.equal(closed[0], closed[-1])
    assert ((logs.mean(0) - closed[0]).abs() < 4 * error).all()
    torch.testing.assert_close(gaussian_kl(q, p).flatten(1).sum(1), closed[0])


@every_prior
def test_kl_without_a_closed_form_is_its_one_sample_estimate(name, small, written, images):
    model = small(prior=written(ROLES["prior"], name))
    z, q, p = model(images(2, (1, 4, 4)), samples=3).layers[0]
    if not isinstance(p, Gaussian):
        log_q = Normal(q.loc, (q.log_var / 2).exp()).log_prob(z).sum(-1)
        torch.testing.assert_close(kl(q, p, z), log_q - p.log_prob(z))


# Densities


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("family", [Gaussian, Laplace])
def test_location_scale_densities_integrate_to_one(family, dims):
    d = family(torch.tensor([0.4, -0.3][:dims], **F64), torch.tensor([-0.5, 0.3][:dims], **F64))
    points, cell = grid(25, 2000, dims)
    assert d.log_prob(points).exp().sum().item() * cell == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dims", [1, 2])
@every_prior
def test_prior_densities_integrate_to_one(name, dims, written, space_of):
    p = moved(ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, (dims,))))()
    points, cell = grid(12, 1200, dims)
    with torch.no_grad():
        assert p.log_prob(points).double().exp().sum().item() * cell == pytest.approx(1, abs=2e-3)


def test_bernoulli_probabilities_sum_to_one():
    d = Bernoulli(torch.randn(1, 2, 2, **F64) * 3)
    binary = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], **F64)] * 4).reshape(16, 1, 2, 2)
    assert d.log_prob(binary).exp().sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close((d.log_prob(binary).exp()[:, None, None, None] * binary).sum(0), d.mean)


@pytest.mark.parametrize("log_scale", [(-9.5, -9.0), (-4.0, 0.0), (3.0, 4.5)], ids=str)
def test_logistic_probabilities_sum_to_one(log_scale):
    d = logistic_mixture(3, 1, log_scale=log_scale)
    total = d.log_prob(LEVELS.reshape(256, 1, 1, 1)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


def test_chained_logistic_probabilities_sum_to_one():
    d = logistic_mixture(3, 2)
    assert d.chain.abs().max() > 0.1
    pixels = torch.cartesian_prod(LEVELS, LEVELS).reshape(-1, 2, 1, 1)
    assert d.log_prob(pixels).exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("log_scale", [(-7.0, -6.0), (-3.0, -1.0)])
def test_uniform_noise_becomes_levels_as_often_as_they_are_probable(log_scale):
    d = logistic_mixture(3, 1, log_scale=log_scale)
    u = (torch.arange(200_000, **F64) + 0.5) / 200_000
    levels = (255 * d.from_uniform(u[:, None, None, None])).round().long().flatten()
    p = d.log_prob(LEVELS[:, None, None, None]).exp()
    torch.testing.assert_close(torch.bincount(levels, minlength=256).double() / 200_000, p, atol=1e-4, rtol=0)


def test_the_ends_of_uniform_noise_are_numbers():
    """Also where a weight is too small for a number, and where rounding leaves the weights a little short of 1."""
    weights = torch.tensor([-120.0, 0.0, -120.0]).view(3, 1, 1, 1)
    d = LogisticMixture(weights, torch.tensor([-0.8, 0.0, 0.8]).view(3, 1, 1, 1), torch.full((3, 1, 1, 1), -6.0),
                        torch.zeros(3, 1, 1, 1, 1))
    drawn = d.from_uniform(torch.tensor([0.0, 1e-7, 0.5, 1 - 6e-8, 1.0]).view(5, 1, 1, 1)).flatten()
    assert ((drawn - 0.5).abs() < 0.03).all()


def test_channels_of_a_pixel_are_drawn_with_the_law_of_their_chain():
    d = logistic_mixture(2, 2, log_scale=(-2.0, -1.0))
    n = 600
    u = (torch.cartesian_prod(*[torch.arange(n, **F64)] * 2) + 0.5) / n
    levels = (255 * d.from_uniform(u[:, :, None, None])).round().long()[:, :, 0, 0] // 32
    drawn = torch.bincount(8 * levels[:, 0] + levels[:, 1], minlength=64).double() / n**2
    p = d.log_prob(torch.cartesian_prod(LEVELS, LEVELS)[:, :, None, None]).exp().view(8, 32, 8, 32).sum((1, 3)).flatten()
    torch.testing.assert_close(drawn, p, atol=2e-3, rtol=0)


def test_logistic_probabilities_of_pixels_multiply():
    d, x = logistic_mixture(2, 3, 2, 2), LEVELS[torch.randint(0, 256, (3, 2, 2))]
    fields, alone = (d.log_weights, d.means, d.log_scales, d.chain), 0.0
    for i, j in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        pixel = (..., slice(i, i + 1), slice(j, j + 1))
        alone = alone + LogisticMixture(*(t[pixel] for t in fields)).log_prob(x[pixel])
    torch.testing.assert_close(d.log_prob(x), alone)


# Samples


@pytest.mark.parametrize(("d", "law"), [
    (Gaussian(torch.tensor([0.7]), torch.tensor([2 * math.log(1.5)])), stats.norm(0.7, 1.5)),
    (Laplace(torch.tensor([0.7]), torch.tensor([math.log(1.5)])), stats.laplace(0.7, 1.5)),
    (BestScale(Gaussian, torch.tensor([0.7]), torch.tensor(math.log(1.5)), 1), stats.norm(0.7, 1.5)),
    (BestScale(Laplace, torch.tensor([0.7]), torch.tensor(math.log(1.5)), 1), stats.laplace(0.7, 1.5)),
], ids=["gaussian", "laplace", "best-gaussian", "best-laplace"])
def test_location_scale_samples_have_their_law(d, law):
    drawn = d.sample((20_000,)).squeeze(-1).numpy()
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-3
    assert drawn.mean() == pytest.approx(d.mean.item(), abs=0.1)


@every_prior
def test_prior_samples_have_the_law_that_log_prob_says(name, written, space_of):
    """By quadrature in two dimensions: both marginals, their dependence, and the total."""
    n = 600
    p = moved(ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, (2,))))()
    points, cell = grid(12, n, 2)
    with torch.no_grad():
        mass = p.log_prob(points).double().exp().reshape(n, n).numpy() * cell
        drawn = p.sample((20_000,)).double().numpy()
    assert mass.sum() == pytest.approx(1, abs=2e-3)
    ends = np.linspace(-12, 12, n + 1)[1:]
    for axis in (0, 1):
        cdf = np.cumsum(mass.sum(1 - axis))
        assert stats.kstest(drawn[:, axis], lambda v, cdf=cdf: np.interp(v, ends, cdf, left=0)).pvalue > 1e-3
    product = (mass.ravel() * points.prod(1).numpy()).sum()
    spread = drawn.prod(1).std() / math.sqrt(len(drawn))
    assert abs(drawn.prod(1).mean() - product) < 5 * spread


@every_prior
def test_prior_samples_in_one_dimension_have_their_law(name, written, space_of):
    n = 4000
    p = moved(ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, (1,))))()
    points, cell = grid(12, n, 1)
    with torch.no_grad():
        cdf = np.cumsum(p.log_prob(points).double().exp().numpy() * cell)
        drawn = p.sample((20_000,)).double().numpy()[:, 0]
    assert cdf[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(drawn, lambda v: np.interp(v, np.linspace(-12, 12, n + 1)[1:], cdf, left=0)).pvalue > 1e-3


def test_bernoulli_samples_have_their_frequencies():
    d = Bernoulli(torch.tensor([-2.0, 0.0, 1.5]).reshape(1, 1, 3))
    drawn = d.sample((20_000,))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = (d.mean * (1 - d.mean) / len(drawn)).sqrt()
    assert ((drawn.mean(0) - d.mean).abs() < 4 * error).all()


def test_logistic_samples_have_their_frequencies():
    """Jointly over two chained channels, in 16×16 blocks of levels."""
    d = logistic_mixture(3, 2, log_scale=(-3.0, -1.0))
    pixels = torch.cartesian_prod(LEVELS, LEVELS).reshape(-1, 2, 1, 1)
    expected = d.log_prob(pixels).exp().reshape(16, 16, 16, 16).sum((1, 3)).flatten().numpy()
    drawn = d.sample((50_000,)).reshape(-1, 2) * 255
    torch.testing.assert_close(drawn, drawn.round(), rtol=0, atol=1e-4)
    blocks = drawn.round().long() // 16
    seen = np.bincount((blocks[:, 0] * 16 + blocks[:, 1]).numpy(), minlength=256)
    usual = expected * len(drawn) > 5
    counts = [np.append(f[usual], f[~usual].sum()) for f in (seen, expected * len(drawn))]
    assert stats.chisquare(*counts, sum_check=False).pvalue > 1e-3


def test_logistic_samples_fall_on_the_right_levels():
    """Level by level, where a component is a few levels wide and where the outermost bins hold much."""
    loc = torch.tensor([-0.3, 1.01], **F64).reshape(2, 1, 1, 1)
    zero = torch.zeros_like(loc)
    d = LogisticMixture((zero + 1).log_softmax(0), loc, zero - 4.3, zero[None, :].transpose(0, 1))
    expected = d.log_prob(LEVELS.reshape(256, 1, 1, 1)).exp().numpy()
    seen = np.bincount((d.sample((50_000,)).flatten() * 255).round().long().numpy(), minlength=256)
    usual = expected * 50_000 > 5
    counts = [np.append(f[usual], f[~usual].sum()) for f in (seen, expected * 50_000)]
    assert stats.chisquare(*counts, sum_check=False).pvalue > 1e-3


def test_the_chain_of_a_likelihood_looks_back_only():
    likelihood = LogisticLikelihood((3, 2, 4), mixtures=2)
    chain = likelihood(torch.randn(5, likelihood.channels, 2, 4)).chain
    assert chain.shape == (5, 2, 3, 3, 2, 4)
    below = torch.ones(3, 3).tril(-1).bool()[..., None, None].expand_as(chain)
    assert (chain[below] != 0).all()
    assert chain.abs().max() < 1
    assert not chain[~below].any()


def test_logistic_samples_have_the_shape_of_the_batch():
    likelihood = LogisticLikelihood((3, 2, 4), mixtures=2)
    d = likelihood(torch.randn(5, 6, likelihood.channels, 2, 4))
    assert d.sample().shape == d.mean.shape == (5, 6, 3, 2, 4)
    assert d.sample((7, 2)).shape == (7, 2, 5, 6, 3, 2, 4)


@pytest.mark.parametrize("level", [0, 3, 100, 255])
def test_the_mean_of_a_narrow_logistic_is_its_location(level):
    loc = torch.full((1, 1, 1, 1), 2 * level / 255 - 1, **F64)
    zero = torch.zeros_like(loc)
    d = LogisticMixture(zero, loc, zero - 7, zero[None])
    expected = (d.log_prob(LEVELS.reshape(256, 1, 1, 1)).exp() * LEVELS).sum()
    assert d.mean.item() == pytest.approx(expected.item(), abs=1e-3)
    if 0 < level < 255:  # at the ends half of it is cut off
        assert d.mean.item() == pytest.approx(level / 255, abs=1e-6)


@pytest.mark.parametrize("m", [1, 3])
def test_the_mean_of_a_chain_is_that_of_its_samples(m):
    """Of 40 pixels: a component is one for all channels, and its links are multiplied by its own means."""
    d = logistic_mixture(m, 3, w=40, log_scale=(-6.0, -3.0))
    d = LogisticMixture(d.log_weights, d.means * 0.3, d.log_scales, d.chain.clamp(-0.6, 0.6))
    drawn = d.sample((4000,))
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - d.mean).abs() < 4.5 * error + 5e-4).all()


@pytest.mark.parametrize("log_scale", [-4.0, -1.0, 1.0])
@pytest.mark.parametrize("loc", [-1.7, -1.0, 0.4, 2.0])
def test_the_mean_of_a_logistic_that_is_cut_off_is_that_of_its_levels(loc, log_scale):
    zero = torch.zeros(1, 1, 1, 1, **F64)
    d = LogisticMixture(zero, zero + loc, zero + log_scale, zero[None])
    expected = (d.log_prob(LEVELS.reshape(256, 1, 1, 1)).exp() * LEVELS).sum()
    assert d.mean.item() == pytest.approx(expected.item(), abs=2e-5)


def test_the_mean_of_a_mixture_weighs_its_components():
    """Components inside the range and narrow: the mean over the 256 levels."""
    d = logistic_mixture(3, 1, log_scale=(-6.0, -5.0))
    d = LogisticMixture(d.log_weights, d.means * 0.6, d.log_scales, d.chain)
    expected = (d.log_prob(LEVELS.reshape(256, 1, 1, 1)).exp() * LEVELS).sum()
    assert d.mean.item() == pytest.approx(expected.item(), abs=2e-3)


# Bounds


def test_one_importance_sample_is_the_one_sample_elbo(small, images):
    x = images(3, (1, 4, 4))
    trace = small()(x)
    z, q, _ = trace.layers[0]
    log_q = Normal(q.loc, (q.log_var / 2).exp()).log_prob(z).sum(-1)
    log_p = Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(iw_bound(1)(trace), (-trace.log_px + log_q - log_p)[0])
    log_px = Normal(trace.px.mean, 0.3).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(trace.log_px, log_px)
    torch.testing.assert_close(nll(trace), -log_px[0])


def test_the_importance_weighted_bound_is_a_mean_of_weights(small, images):
    trace = small()(images(3, (1, 4, 4)), samples=5)
    weights = log_weight(trace).double().exp().mean(0)
    torch.testing.assert_close(iw_bound(5)(trace).double(), -weights.log())


def test_bounds_of_two_sizes_share_a_trace(small, images):
    """A bound over K samples stays one when another term makes the trace hold more."""
    objective = parse_objective("iw_bound(2) + iw_bound(64)")
    assert objective.samples == 64
    model, x = small(), images(4, (1, 4, 4))
    with torch.no_grad():
        shared = torch.stack([objective.parts(model(x, samples=64))[0] for _ in range(200)])
        alone = torch.stack([iw_bound(2)(model(x, samples=2)).mean() for _ in range(200)])
    error = ((shared.var() + alone.var()) / 200).sqrt()
    assert (shared.mean() - alone.mean()).abs() < 5 * error


def linear_gaussian(small, w, b, sigma):
    """The model p(x | z) = N(x; Wz + b, σ²I) with p(z) = N(0, I), made of the parts."""
    model = small((1, 2, 3), encoder="mlp(hidden=())", decoder="mlp(hidden=())", latent=f"flat({w.shape[1]})",
                  likelihood=f"gaussian(sigma={sigma!r})")
    with torch.no_grad():
        linear = next(m for m in model.decoder.modules() if isinstance(m, torch.nn.Linear))
        linear.weight.copy_(w)
        linear.bias.copy_(b)
    return model


def test_bounds_are_in_order_below_the_likelihood(small):
    """ELBO ≤ IWAE₈ ≤ IWAE₆₄ ≤ log p(x). (Burda et al., 2016, Theorem 1)"""
    w, b, sigma = torch.randn(6, 2), torch.randn(6), 0.7
    model = linear_gaussian(small, w, b, sigma)
    x = w @ torch.randn(2) + b
    exact = stats.multivariate_normal(b.numpy(), (w @ w.T + sigma**2 * torch.eye(6)).numpy()).logpdf(x.numpy())
    posterior = torch.linalg.inv(torch.eye(2) + w.T @ w / sigma**2)
    with torch.no_grad():  # a posterior that is off: wider than the true one, and uncorrelated
        heads = [next(m for m in head.modules() if isinstance(m, torch.nn.Linear))
                 for head in (model.latent.posterior.loc, model.latent.posterior.log_var)]
        biases = posterior @ w.T @ (x - b) / sigma**2, posterior.diagonal().log() + 1
        for head, bias in zip(heads, biases, strict=True):
            head.weight.zero_()
            head.bias.copy_(bias)
        logs = log_weight(model(x.reshape(1, 1, 2, 3), samples=64 * 1000)).reshape(1000, 64).double()
        elbo = -parse_objective("nll + kl")(model(x.reshape(1, 1, 2, 3), samples=64_000))
    iw8 = logs.reshape(1000, 8, 8).logsumexp(-1).mean(-1) - math.log(8)
    iw64 = logs.logsumexp(-1) - math.log(64)
    for low, high in [(logs.mean(-1), iw8), (iw8, iw64)]:
        gap = high - low
        assert gap.mean() > 4 * gap.std() / math.sqrt(1000)
    assert iw64.mean() < exact
    assert iw64.mean() == pytest.approx(exact, abs=0.1)
    assert elbo.item() == pytest.approx(logs.mean().item(), abs=0.05)


def test_the_exact_posterior_makes_every_weight_the_likelihood(small):
    """And the model with principal components as its weights is scikit-learn's probabilistic PCA.

    (Tipping & Bishop, 1999): W = U (Λ − σ²I)^½ has orthogonal columns, so that the posterior is diagonal.
    """
    rng = np.random.default_rng(0)
    data = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 6)) + 0.4 * rng.normal(size=(400, 6)) + rng.normal(size=6)
    pca = PCA(2).fit(data)
    sigma2 = float(pca.noise_variance_)
    w = pca.components_.T * np.sqrt(pca.explained_variance_ - sigma2)
    model = linear_gaussian(small, torch.from_numpy(w), torch.from_numpy(pca.mean_), math.sqrt(sigma2))
    variance = 1 / (1 + (w**2).sum(0) / sigma2)
    to_mean = torch.from_numpy(variance[:, None] * w.T / sigma2)
    with torch.no_grad():
        loc, log_var = (next(m for m in head.modules() if isinstance(m, torch.nn.Linear))
                        for head in (model.latent.posterior.loc, model.latent.posterior.log_var))
        loc.weight.copy_(to_mean)
        loc.bias.copy_(-to_mean @ torch.from_numpy(pca.mean_))
        log_var.weight.zero_()
        log_var.bias.copy_(torch.from_numpy(10 * np.arctanh(np.log(variance) / 10)))
        trace = model(torch.from_numpy(data).float().reshape(-1, 1, 2, 3), samples=3)
    exact = torch.from_numpy(pca.score_samples(data))
    torch.testing.assert_close(log_weight(trace).double(), exact.expand(3, -1), rtol=1e-4, atol=1e-3)


# Flows, mixtures, scales


@pytest.mark.parametrize("shape", [(2,), (5,), (2, 2, 2)])
def test_a_flow_inverts_and_its_determinant_is_that_of_its_jacobian(shape):
    flow, d = moved(Flow(Space(shape), couplings=5, hidden=16), 0.3), math.prod(shape)
    z = torch.randn(6, *shape)
    u, log_det = flow.encode(z)
    assert u.shape == (6, d)
    assert (u - z.flatten(1)).abs().max() > 0.1
    torch.testing.assert_close(flow.decode(u.unflatten(-1, shape)), z, rtol=1e-4, atol=1e-4)
    for example, expected in zip(z, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda t: flow.encode(t)[0], example).reshape(d, d)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(flow().log_prob(z), Normal(0.0, 1.0).log_prob(u).sum(-1) + log_det)


def test_a_flow_moves_every_dimension_and_mixes_them():
    flow = moved(Flow(Space((4,)), couplings=4, hidden=16), 0.3)
    jacobian = torch.autograd.functional.jacobian(lambda t: flow.encode(t)[0], torch.randn(4))
    assert (jacobian != 0).all()


@pytest.mark.parametrize("dims", [1, 3])
def test_a_fitted_mixture_is_scikit_learns(dims):
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(size=(500, dims)) @ rng.normal(size=(dims, dims)) + 8 * rng.normal(size=dims)
                            for _ in range(3)])
    fitted = Mixture.fit(codes, (dims,), 3, seed=1)
    centre, spread = codes.mean(0), codes.std(0) + 1e-6
    reference = SklearnMixture(3, reg_covar=1e-3, max_iter=50, tol=1e-2, random_state=1, init_params="k-means++")
    reference.fit((codes - centre) / spread)
    expected = reference.score_samples((codes - centre) / spread) - np.log(spread).sum()
    got = fitted().log_prob(torch.from_numpy(codes))
    torch.testing.assert_close(got.double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fitted().mean.double(), torch.from_numpy(codes.mean(0)), rtol=1e-3, atol=1e-2)
    assert not any(p.requires_grad for p in fitted.parameters())


def test_a_fitted_mixture_draws_codes_like_those_it_saw():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4000, 4)) @ rng.normal(size=(4, 4)) + 5
    drawn = Mixture.fit(codes.astype(np.float32), (4, 1, 1), 2)().sample((20_000,)).reshape(-1, 4)
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T.numpy()), np.cov(codes.T), atol=0.4)


def test_a_mixture_has_no_more_components_than_codes_allow():
    codes = np.random.default_rng(0).normal(size=(30, 3))
    assert len(Mixture.fit(codes, (3,), 50).logits) == 5
    assert len(Mixture.fit(codes[:3], (3,), 50).logits) == 1


@pytest.mark.parametrize("family", [Gaussian, Laplace])
def test_the_best_scale_is_the_maximum_over_scales(family):
    loc, x = torch.rand(2, 3, 1, 4, 4, **F64), torch.rand(3, 1, 4, 4, **F64)
    best = BestScale(family, loc, torch.tensor(5.0, **F64)).log_prob(x)
    assert best.shape == (2, 3)
    scan = torch.stack([family.of_scale(loc, s, 3).log_prob(x).sum() for s in torch.linspace(-4, 2, 6001, **F64)])
    assert best.sum() >= scan.max()
    assert best.sum() == pytest.approx(scan.max().item(), abs=1e-3)


@pytest.mark.parametrize("part", [GaussianLikelihood, LaplaceLikelihood])
def test_a_calibrated_likelihood_keeps_the_best_scale(part):
    likelihood, mean, x = part((1, 4, 4)), torch.rand(6, 1, 4, 4), torch.rand(6, 1, 4, 4)
    training = likelihood.train()(mean).log_prob(x)
    likelihood.calibrate(mean, x)
    torch.testing.assert_close(likelihood.eval()(mean).log_prob(x), training)


# Free bits


def gaussian_trace(q, p, k=1):
    z = q.rsample((k,))
    px = Gaussian(z.sum(-1)[..., None, None, None], torch.zeros(()), 3)
    x = torch.zeros(len(q.loc), 1, 1, 1)
    return Trace(x, (Layer(z, q, p),), px, px.log_prob(x))


def test_no_free_bits_are_the_kl():
    q = Gaussian(torch.randn(5, 4), torch.randn(5, 4))
    trace = gaussian_trace(q, Gaussian(torch.randn(4), torch.randn(4)))
    torch.testing.assert_close(free_bits(0)(trace).mean(), kl_term(trace).mean())
    torch.testing.assert_close(free_bits(0)(trace), kl_term(trace).mean().expand(5))


def test_dimensions_below_the_free_bits_feel_no_pull():
    loc = torch.tensor([[3.0, 0.1, 0.0], [-3.0, 0.1, 0.2]], requires_grad=True)
    log_var = torch.tensor([[-1.0, -0.1, 0.0], [-1.0, 0.1, 0.0]], requires_grad=True)
    term = free_bits(0.5)(gaussian_trace(Gaussian(loc, log_var), Gaussian(torch.zeros(3), torch.zeros(3))))
    first = 0.5 * (9 + math.exp(-1) + 1 - 1)
    torch.testing.assert_close(term, torch.full((2,), first + 2 * 0.5))
    term.mean().backward()
    assert loc.grad[:, 0].all()
    assert log_var.grad[:, 0].all()
    assert not loc.grad[:, 1:].any()
    assert not log_var.grad[:, 1:].any()


def test_free_bits_take_a_layer_as_a_whole_without_a_closed_form():
    q, p = Gaussian(torch.randn(5, 4), torch.randn(5, 4)), moved(Flow(Space((4,)), 2, 8))()
    trace = gaussian_trace(q, p, 3)
    z = trace.layers[0].z
    average = (q.log_prob(z) - p.log_prob(z)).mean().item()
    torch.testing.assert_close(free_bits(0)(trace), torch.full((5,), max(average, 0.0)))
    torch.testing.assert_close(free_bits(average + 7)(trace), torch.full((5,), average + 7))
