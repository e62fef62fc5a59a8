"""Terms against closed forms, exact enumeration and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.autograd import gradcheck
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from reparam.distributions.base import stopped
from reparam.distributions.gaussian import BestScale, Gaussian, Laplace
from reparam.errors import UsageError
from reparam.models.priors import Flow, GaussianMixture
from reparam.models.space import Space
from reparam.models.trace import Layer, Trace
from reparam.objectives.context import Context
from reparam.objectives.objective import parse_objective
from reparam.objectives.terms import balanced_kl, capacity, dip, dwkl, free_bits, kl, layer_balanced_kl, mi, mmd, tc

F64 = {"dtype": torch.float64}
ESTIMATORS = ["mss", "mws"]


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Parts compute in float32 by calling `.float()`; here that stays in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def gaussian(n, *shape, spread=1.0):
    return Gaussian(spread * torch.randn(n, *shape, **F64), torch.randn(n, *shape, **F64) - 1, len(shape))


def standard(*shape):
    return Gaussian(torch.zeros(shape, **F64), torch.zeros(shape, **F64), len(shape))


def mixture(dims):
    factors = torch.randn(3, dims, dims, **F64).triu(1) + torch.eye(dims, **F64)
    return GaussianMixture(torch.tensor([0.2, 0.3, 0.5], **F64).log(), torch.randn(3, dims, **F64), factors, (dims,))


def trace_of(*layers, k=1, z=None):
    """A trace of (q, p) pairs whose decoder and images say nothing."""
    latents = tuple(Layer(q.rsample((k,)) if z is None else z, q, p) for q, p in layers)
    first = latents[0].z
    x = torch.zeros(first.shape[1], 1, 1, 1, dtype=first.dtype)
    return Trace(x, latents, Gaussian(x, x, 3), torch.zeros(first.shape[:2], dtype=first.dtype))


def at(progress):
    """The context at a progress of training; None is outside it."""
    return Context(None if progress is None else torch.tensor(progress))


def log_ratio(trace):
    """log q(z | x) − log p(z), (K, B), the former by torch.distributions."""
    z, q, p = trace.layers[0]
    return Normal(q.loc, (q.log_var / 2).exp()).log_prob(z).flatten(2).sum(-1) - p.log_prob(z)


def exact_mixture(q, z):
    """log q(z) and Σ_j log q(z_j) under the uniform mixture of all posteriors."""
    law = Normal(q.loc, (q.log_var / 2).exp())
    weights = torch.zeros(len(q.loc), **F64)
    joint = MixtureSameFamily(Categorical(logits=weights), Independent(law, 1))
    dims = q.loc.shape[1]
    each = MixtureSameFamily(Categorical(logits=weights.expand(dims, -1)), Normal(law.loc.T, law.scale.T))
    return joint.log_prob(z), each.log_prob(z).sum(-1)


# Chen et al.'s decomposition


@pytest.mark.parametrize("dataset_size", [0, 5, 1000])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("prior", ["normal", "spatial", "mixture"])
def test_the_three_parts_add_up_to_the_one_sample_kl(prior, estimator, dataset_size):
    shape = (2, 1, 3) if prior == "spatial" else (4,)
    p = mixture(4) if prior == "mixture" else standard(*shape)
    trace = trace_of((gaussian(5, *shape), p), k=3)
    total = sum(part(estimator)(trace, Context(dataset_size=dataset_size)) for part in (mi, tc, dwkl))
    torch.testing.assert_close(total, log_ratio(trace).mean(0), rtol=1e-12, atol=1e-12)


def test_the_three_parts_are_the_closed_kl_on_average():
    trace = trace_of((gaussian(4, 3), standard(3)), k=20_000)
    total = sum(part()(trace, Context(dataset_size=100)) for part in (mi, tc, dwkl))
    error = log_ratio(trace).std(0) / math.sqrt(20_000)
    assert ((total - kl(trace)).abs() < 4 * error).all()


@pytest.mark.parametrize("dataset_size", [0, 5])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_batch_that_is_the_data_set_gives_the_exact_mixture(estimator, dataset_size):
    """Under 'mss' as it stands; under 'mws' each density is too small by a factor of N."""
    n, dims = 5, 3
    q, p = gaussian(n, dims), standard(dims)
    trace, context = trace_of((q, p), k=4), Context(dataset_size=dataset_size)
    joint, marginals = (v.mean(0) for v in exact_mixture(q, trace.layers[0].z))
    own, prior = q.log_prob(trace.layers[0].z).mean(0), p.log_prob(trace.layers[0].z).mean(0)
    less = math.log(n) if estimator == "mws" else 0.0
    torch.testing.assert_close(own - mi(estimator)(trace, context), joint - less)
    torch.testing.assert_close(dwkl(estimator)(trace, context) + prior, marginals - dims * less)
    torch.testing.assert_close(tc(estimator)(trace, context), joint - marginals + (dims - 1) * less)


def test_stratified_sampling_is_unbiased_over_every_batch():
    """The mean of the estimated q(z) over all batches of three that hold image 0, without replacement."""
    q = gaussian(6, 2)
    z = q.rsample((1,))
    estimates = []
    for others in itertools.combinations(range(1, 6), 2):
        batch = torch.tensor([0, *others])
        some = Gaussian(q.loc[batch], q.log_var[batch])
        trace = trace_of((some, standard(2)), z=z[:, batch])
        estimates.append((some.log_prob(trace.layers[0].z)[0, 0] - mi()(trace, Context(dataset_size=6))[0]).exp())
    torch.testing.assert_close(torch.stack(estimates).mean(), exact_mixture(q, z[0])[0][0].exp())


def test_weighted_sampling_is_the_sum_over_the_batch():
    """log q(z) ≈ log Σ_m q(z | x_m) − log(N M). (Chen et al., 2018, Eq. 5)"""
    trace = trace_of((gaussian(4, 3), standard(3)))
    z, q, p = trace.layers[0]
    each = Normal(q.loc, (q.log_var / 2).exp()).log_prob(z[0][:, None])
    own = q.log_prob(z)[0]
    joint = each.sum(-1).exp().sum(1).log() - math.log(4000)
    marginals = (each.exp().sum(1).log() - math.log(4000)).sum(-1)
    torch.testing.assert_close(mi("mws")(trace, Context(dataset_size=1000)), own - joint)
    torch.testing.assert_close(tc("mws")(trace, Context(dataset_size=1000)), joint - marginals)
    torch.testing.assert_close(dwkl("mws")(trace, Context(dataset_size=1000)), marginals - p.log_prob(z)[0])


def test_information_lies_between_none_and_the_logarithm_of_the_data_sets_size():
    same = Gaussian(torch.ones(4, 2, **F64), torch.zeros(4, 2, **F64))
    apart = Gaussian(100.0 * torch.arange(4, **F64)[:, None].expand(4, 2), torch.zeros(4, 2, **F64))
    zero, one = torch.zeros(4, **F64), torch.ones(4, **F64)
    torch.testing.assert_close(mi()(trace_of((same, standard(2))), Context(dataset_size=50)), zero)
    torch.testing.assert_close(mi()(trace_of((apart, standard(2))), Context(dataset_size=50)), math.log(50) * one)
    single = Gaussian(same.loc[:1], same.log_var[:1])
    torch.testing.assert_close(mi()(trace_of((single, standard(2)))), zero[:1])


def test_a_factorised_aggregate_has_no_total_correlation():
    """Means on a product grid with one variance: q(z) is a product at every z, not on average only."""
    loc = torch.cartesian_prod(torch.randn(5, **F64), torch.randn(4, **F64), torch.randn(3, **F64))
    trace = trace_of((Gaussian(loc, torch.tensor([-1.0, 0.3, -2.0], **F64).expand_as(loc)), standard(3)))
    torch.testing.assert_close(tc()(trace), torch.zeros(60, **F64), rtol=0, atol=1e-10)


def test_the_total_correlation_of_a_gaussian_aggregate():
    """−½ log det of the correlation matrix, for 1200 posteriors whose mixture is close to N(0, Σ)."""
    n, rho, variance = 1200, 0.8, 0.2
    covariance = torch.tensor([[1.0, 2 * rho], [2 * rho, 4.0]], **F64)
    loc = torch.randn(n, 2, **F64)
    loc = loc - loc.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(loc.T @ loc / n), loc.T, upper=False)
    loc = (torch.linalg.cholesky(covariance - variance * torch.eye(2)) @ white).T
    trace = trace_of((Gaussian(loc, torch.full_like(loc, math.log(variance))), standard(2)))
    values = tc()(trace)
    exact = -0.5 * math.log(1 - rho**2)
    assert values.mean().item() == pytest.approx(exact, abs=4 * values.std().item() / math.sqrt(n))
    assert values.std() / math.sqrt(n) < 0.03


def test_densities_of_other_factorised_posteriors():
    loc, log_scale = torch.randn(4, 2, **F64), torch.randn(4, 2, **F64)
    q, p = Laplace(loc, log_scale), standard(2)
    trace = trace_of((q, p))
    z = trace.layers[0].z
    each = torch.distributions.Laplace(loc, log_scale.exp()).log_prob(z[0][:, None])
    torch.testing.assert_close(mi()(trace), q.log_prob(z)[0] - each.sum(-1).exp().mean(1).log())


@pytest.mark.parametrize("part", [mi, tc, dwkl])
def test_parts_of_the_kl_say_what_they_need(part):
    with pytest.raises(UsageError, match=r"'mss'.*'mws'"):
        part("mis")
    two = trace_of((gaussian(3, 2), standard(2)), (gaussian(3, 2), standard(2)))
    with pytest.raises(UsageError, match=f"{part.__name__} reads the draws of one stochastic layer.* has 2"):
        part()(two)
    z, q, p = trace_of((gaussian(3, 2), standard(2))).layers[0]
    other = BestScale(Gaussian, q.loc, torch.zeros(()), 1)
    with pytest.raises(UsageError, match="BestScale does not have"):
        part()(trace_of((other, p), z=z))


# DIP-VAE


def dip_by_numpy(covariance, off_diagonal, diagonal):
    variances = np.diag(covariance)
    outside = covariance - np.diag(variances)
    return off_diagonal * (outside**2).sum() + diagonal * ((variances - 1) ** 2).sum()


@pytest.mark.parametrize("shape", [(4,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("kind", [1, 2])
def test_dip_is_its_formula(kind, shape):
    q = gaussian(7, *shape)
    covariance = np.cov(q.loc.flatten(1).numpy().T, bias=True)
    if kind == 2:
        covariance = covariance + np.diag(q.log_var.flatten(1).exp().mean(0).numpy())
    expected = dip_by_numpy(covariance, 3.0, 5.0)
    value = dip(kind, 3.0, 5.0)(trace_of((q, standard(*shape))))
    torch.testing.assert_close(value, torch.full((7,), expected, **F64))


def test_the_second_dip_looks_at_the_covariance_of_draws():
    q = gaussian(6, 3)
    drawn = q.rsample((100_000,)).flatten(0, 1)
    expected = dip_by_numpy(np.cov(drawn.numpy().T), 2.0, 3.0)
    assert dip(2, 2.0, 3.0)(trace_of((q, standard(3))))[0].item() == pytest.approx(expected, rel=0.03)


def test_whitened_codes_cost_nothing():
    loc = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], **F64)
    trace = trace_of((Gaussian(loc, torch.zeros_like(loc)), standard(2)))
    assert not dip(1)(trace).any()
    torch.testing.assert_close(dip(2, 7.0, 10.0)(trace), torch.full((4,), 20.0, **F64))


def test_dip_says_what_it_needs():
    with pytest.raises(UsageError, match="kind must be 1 or 2"):
        dip(3)
    loc = torch.randn(4, 2, **F64)
    trace = trace_of((Laplace(loc, loc), standard(2)))
    assert dip(1)(trace).isfinite().all()
    with pytest.raises(UsageError, match="variances of a Gaussian"):
        dip(2)(trace)


# Maximum mean discrepancy


def kernel_matrix(kernel, scale, a, b):
    c, d = 2 * a.shape[1] * scale, cdist(a, b, "sqeuclidean")
    if kernel == "rbf":
        return np.exp(-d / c)
    return sum(s * c / (s * c + d) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))


@pytest.mark.parametrize("shape", [(3,), (2, 1, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "scale"), [("imq", 1.0), ("imq", 0.3), ("rbf", 1.0), ("rbf", 2.5)])
def test_mmd_is_its_double_sum(kernel, scale, shape):
    q, p, n, k = gaussian(5, *shape), standard(*shape), 5, 2
    trace = trace_of((q, p), k=k)
    torch.manual_seed(3)
    value = mmd(kernel, scale)(trace)
    torch.manual_seed(3)
    drawn = p.sample((k, n)).flatten(2).numpy()
    codes, total = trace.layers[0].z.flatten(2).numpy(), 0.0
    for a, b in zip(codes, drawn, strict=True):
        aa, bb, ab = (kernel_matrix(kernel, scale, *pair) for pair in [(a, a), (b, b), (a, b)])
        total += sum(aa[i, j] + bb[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        total -= 2 * ab.sum() / n**2
    torch.testing.assert_close(value, torch.full((n,), total / k, **F64))


def repeated(term, make, times=400):
    values = torch.stack([term(make())[0] for _ in range(times)])
    return values.mean().item(), 4 * values.std().item() / math.sqrt(times)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_zero_on_average_when_the_codes_follow_the_prior(kernel):
    """Narrow posteriors around scattered means: draws of one image resemble each other, and are never compared."""

    def make():
        loc = math.sqrt(0.9) * torch.randn(6, 3, **F64)
        return trace_of((Gaussian(loc, torch.full_like(loc, math.log(0.1))), standard(3)), k=3)

    mean, error = repeated(mmd(kernel), make)
    assert abs(mean) < error < 0.1


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_mmd_has_its_closed_form_between_two_gaussians(shift):
    """E exp(−‖x − y‖²/C) = (1 + 4/C)^(−D/2) exp(−‖δ‖²/(C + 4)) for x − y ~ N(δ, 2I)."""
    dims, scale = 3, 0.5
    c, distance = 2 * dims * scale, dims * shift**2
    exact = 2 * (1 + 4 / c) ** (-dims / 2) * (1 - math.exp(-distance / (c + 4)))
    q = Gaussian(torch.full((30, dims), shift, **F64), torch.zeros(30, dims, **F64))
    mean, error = repeated(mmd("rbf", scale), lambda: trace_of((q, standard(dims))))
    assert mean == pytest.approx(exact, abs=error)
    assert exact > 2 * error
    far, near = (repeated(mmd(), lambda q=q: trace_of((q, standard(dims))), 50)
                 for q in (q, Gaussian(q.loc / 4, q.log_var)))
    assert far[0] > near[0] > -near[1]


def test_mmd_moves_codes_and_a_prior_whose_draws_are_differentiable():
    q, p = gaussian(5, 3), standard(3)
    p.loc.requires_grad_()
    q.loc.requires_grad_()
    mmd()(trace_of((q, p)))[0].backward()
    assert q.loc.grad.all()
    assert p.loc.grad.all()
    fixed = GaussianMixture(torch.zeros(1), torch.zeros(1, 3), torch.eye(3)[None].requires_grad_(), (3,))
    z = torch.randn(1, 5, 3, requires_grad=True)
    mmd()(trace_of((Gaussian(z[0], z[0]), fixed), z=z))[0].backward()
    assert z.grad.all()
    assert fixed.factors.grad is None


def test_mmd_says_what_it_needs():
    for wrong in [("gaussian",), ("imq", 0.0), ("rbf", math.inf)]:
        with pytest.raises(UsageError, match=r"kernel must be 'imq' or 'rbf'|scale must be above 0"):
            mmd(*wrong)
    with pytest.raises(UsageError, match="a batch of 1"):
        mmd()(trace_of((gaussian(1, 2), standard(2))))
    with pytest.raises(UsageError, match="integer codes"):
        mmd()(trace_of((gaussian(3, 2), standard(2)), z=torch.zeros(1, 3, 2, dtype=torch.int64)))
    with pytest.raises(UsageError, match="one for each"):
        mmd()(trace_of((gaussian(3, 2), gaussian(3, 2))))


@pytest.mark.parametrize("term", [dip(1), dip(2), mmd()], ids=lambda t: t.name)
def test_autocast_changes_nothing(term):
    q = Gaussian(torch.randn(6, 40), torch.randn(6, 40))
    trace = trace_of((q, Gaussian(torch.zeros(40), torch.zeros(40))))
    values = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values.append(term(trace))
    assert torch.equal(*values)


# Shapes of the rate


def test_capacity_rises_linearly():
    q, p = gaussian(5, 3), standard(3)
    rate = torch.distributions.kl_divergence(Normal(q.loc, (q.log_var / 2).exp()), Normal(0.0, 1.0)).sum(-1).mean()
    for progress, nats in [(0.0, 0.0), (0.25, 15.0), (0.5, 30.0), (1.0, 30.0), (None, 30.0)]:
        value = capacity(30.0)(trace_of((q, p)), at(progress))
        torch.testing.assert_close(value, (rate - nats).abs().expand(5))
    early = capacity(30.0, 0.1)(trace_of((q, p)), at(0.05))
    torch.testing.assert_close(early, (rate - 15).abs().expand(5))


def test_a_rate_below_capacity_grows():
    q, p = gaussian(5, 3), standard(3)
    q.loc.requires_grad_()
    rate = kl(trace_of((q, p))).mean()
    (pull,) = torch.autograd.grad(rate, q.loc)
    for nats, sign in [(rate.item() + 1, -1), (rate.item() - 1, 1)]:
        (grad,) = torch.autograd.grad(capacity(nats)(trace_of((q, p))).mean(), q.loc)
        torch.testing.assert_close(grad, sign * pull)


@pytest.mark.parametrize("wrong", [(-1.0,), (math.nan,), (math.inf,), (1.0, 0.0), (1.0, 1.5)])
def test_capacity_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError, match=r"nats must be at least 0|fraction must be above 0 and up to 1"):
        capacity(*wrong)


def test_free_bits_by_layer():
    """A layer above its nats counts in full, one below counts for the nats and feels no pull."""
    strong, weak, p = gaussian(5, 3, spread=3.0), gaussian(5, 2, 2, spread=0.1), standard(3)
    strong.loc.requires_grad_()
    weak.loc.requires_grad_()
    trace = trace_of((strong, p), (weak, standard(2, 2)))
    high, low = (kl(trace_of(pair)).mean() for pair in [(strong, p), (weak, standard(2, 2))])
    nats = (high.item() + low.item()) / 2
    value = free_bits(nats, "layer")(trace)
    torch.testing.assert_close(value, (high + nats).expand(5))
    value.mean().backward()
    assert strong.loc.grad.all()
    assert weak.loc.grad is None or not weak.loc.grad.any()
    torch.testing.assert_close(free_bits(0.0, "layer")(trace).mean(), kl(trace).mean())
    torch.testing.assert_close(free_bits(10 * nats, "layer")(trace), torch.full((5,), 20 * nats, **F64))
    torch.testing.assert_close(free_bits(10 * nats)(trace), torch.full((5,), 70 * nats, **F64))
    with pytest.raises(UsageError, match="per must be 'unit' or 'layer'"):
        free_bits(1.0, "dimension")


@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
@pytest.mark.parametrize("alpha", [0.0, 0.8, 1.0])
def test_a_balanced_kl_is_the_kl_with_its_gradient_shared_out(alpha, prior):
    q = gaussian(5, 3)
    p = mixture(3) if prior == "mixture" else Gaussian(torch.randn(3, **F64), torch.randn(3, **F64))
    of_q, of_p = (q.loc, q.log_var), (p.locs, p.factors) if prior == "mixture" else (p.loc, p.log_var)
    for t in (*of_q, *of_p):
        t.requires_grad_()
    trace = trace_of((q, p), k=2)
    plain, balanced = kl(trace), balanced_kl(alpha)(trace)
    torch.testing.assert_close(balanced, plain)
    whole = torch.autograd.grad(plain.sum(), (*of_q, *of_p), retain_graph=True)
    shares = torch.autograd.grad(balanced.sum(), (*of_q, *of_p))
    for share, full, weight in zip(shares, whole, (1 - alpha,) * 2 + (alpha,) * 2, strict=True):
        assert full.any()
        torch.testing.assert_close(share, weight * full)


def test_a_balanced_kl_says_what_it_needs():
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="alpha must be from 0 to 1"):
            balanced_kl(alpha)
    with pytest.raises(UsageError, match="FlowDistribution, which is computed by a Flow"):
        balanced_kl()(trace_of((gaussian(3, 2), Flow(Space((2,)), 2, 8).double()())))


def test_layers_are_balanced_by_what_each_dimension_says():
    """γ_l ∝ E[KL_l] / D_l, with mean 1, no gradient through γ, and none of it after the fraction."""
    layers = [(gaussian(5, 3, spread=2.0), standard(3)), (gaussian(5, 2, 4), standard(2, 4)), (gaussian(5, 1), standard(1))]
    for q, _ in layers:
        q.loc.requires_grad_()
    parts = torch.stack([kl(trace_of(pair)) for pair in layers])
    used = parts.detach().mean(1).numpy() / np.array([3, 8, 1])
    gamma = torch.from_numpy(3 * used / used.sum())
    value = layer_balanced_kl(0.3)(trace_of(*layers), at(0.29))
    torch.testing.assert_close(value, (gamma[:, None] * parts).sum(0))
    locs = [q.loc for q, _ in layers]
    got, plain = (torch.autograd.grad(v.sum(), locs) for v in (value, parts))
    for grad, full, g in zip(got, plain, gamma, strict=True):
        torch.testing.assert_close(grad, g * full)
    for progress in (0.31, 1.0, None):
        torch.testing.assert_close(layer_balanced_kl(0.3)(trace_of(*layers), at(progress)), parts.sum(0))
    silent = (standard(1, 3), standard(3))
    values = layer_balanced_kl()(trace_of(silent, silent), at(0.0))
    torch.testing.assert_close(values, torch.zeros(1, **F64))
    with pytest.raises(UsageError, match="fraction must be above 0 and up to 1"):
        layer_balanced_kl(0.0)


def test_a_stopped_distribution_is_the_same_without_gradient():
    loc = torch.randn(4, 3, requires_grad=True)
    for d in (Gaussian(loc, 2 * loc), Laplace(loc, 2 * loc), BestScale(Gaussian, loc, loc.mean(), 1)):
        value = torch.randn(4, 3)
        assert type(stopped(d)) is type(d)
        assert torch.equal(stopped(d).log_prob(value), d.log_prob(value))
        assert d.log_prob(value).requires_grad
        assert not stopped(d).log_prob(value).requires_grad
    assert stopped(Gaussian(loc, loc, 2)).event_dims == 2
    assert stopped(mixture(2)).shape == (2,)
    with pytest.raises(UsageError, match="gradients cannot be stopped"):
        stopped(Flow(Space((2,)), 2, 8)())


# All of them

WRITTEN = ["mi", "mi('mws')", "tc", "tc('mws')", "dwkl", "dwkl('mws')", "dip(1, 10, 100)", "dip(2, 10, 10)", "mmd",
           "mmd('rbf')", "mmd('imq', 0.5)", "mmd('rbf', 2)", "capacity(25, 0.5)", "free_bits(0.1)",
           "free_bits(0.1, 'layer')", "layer_balanced_kl(0.3)", "balanced_kl(0.8)"]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_term_prints_as_it_is_written(text):
    assert str(parse_objective(text)) == text


@pytest.mark.parametrize("text", [t for t in WRITTEN if not t.startswith("balanced_kl")])
@pytest.mark.parametrize("shape", [(3,), (2, 1, 2)], ids=str)
def test_a_term_has_its_gradient(shape, text):
    """By finite differences, with the same draws at every evaluation."""
    term = parse_objective(text).terms[0][1]
    noise = torch.randn(2, 4, *shape, **F64)

    def value(loc, log_var, prior_loc, prior_log_var):
        torch.manual_seed(5)
        q, p = Gaussian(loc, log_var, len(shape)), Gaussian(prior_loc, prior_log_var, len(shape))
        return term(trace_of((q, p), z=loc + (log_var / 2).exp() * noise), Context(torch.tensor(0.1), dataset_size=50))

    def real(*shape):
        return torch.randn(*shape, **F64, requires_grad=True)

    assert gradcheck(value, (real(4, *shape), real(4, *shape), real(*shape), real(*shape)))


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("text", ["mi + tc('mws') + dwkl", "dip", "mmd", "balanced_kl + capacity(9)"])
def test_a_term_compiles_for_batches_of_any_size(text):
    objective = parse_objective(text)
    torch._dynamo.reset()

    def step(loc, log_var, progress):
        q = Gaussian(loc, log_var)
        p = Gaussian(loc.new_zeros(3), loc.new_zeros(3))
        x = loc[:, :, None, None]
        return objective.parts(Trace(x, (Layer(loc[None], q, p),), q, loc.new_zeros(1, len(loc))),
                               Context(progress, dataset_size=50))

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    for n in (4, 7):
        loc, log_var = torch.randn(n, 3), torch.randn(n, 3)
        torch.manual_seed(1)
        expected = step(loc, log_var, torch.tensor(0.2))
        torch.manual_seed(1)
        torch.testing.assert_close(compiled(loc, log_var, torch.tensor(0.2)), expected)
