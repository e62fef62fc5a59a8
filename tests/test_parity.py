"""The same numbers as torch.distributions, scipy and scikit-learn, and constants that can be looked up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from torch import distributions as td

from reparam.distributions.gaussian import Gaussian, Laplace, gaussian_kl
from reparam.distributions.pixels import Bernoulli, LogisticMixture
from reparam.models.priors import GaussianMixture, Normal
from reparam.models.space import Space
from reparam.parts.registry import ROLES
from reparam.trainer.muon import orthogonal


def test_gaussian():
    loc, log_var, x = torch.randn(3, 2, 4).double(), torch.randn(3, 2, 4).double(), torch.randn(5, 3, 2, 4).double()
    for dims in (0, 1, 2):
        expected = td.Independent(td.Normal(loc, (log_var / 2).exp()), dims).log_prob(x)
        torch.testing.assert_close(Gaussian(loc, log_var, dims).log_prob(x), expected)


def test_laplace():
    loc, log_scale, x = torch.randn(3, 4).double(), torch.randn(3, 4).double(), torch.randn(5, 3, 4).double()
    expected = td.Independent(td.Laplace(loc, log_scale.exp()), 1).log_prob(x)
    torch.testing.assert_close(Laplace(loc, log_scale).log_prob(x), expected)


def test_bernoulli():
    logits, x = torch.randn(3, 1, 2, 4).double(), torch.rand(5, 3, 1, 2, 4).round().double()
    expected = td.Independent(td.Bernoulli(logits=logits), 3).log_prob(x)
    torch.testing.assert_close(Bernoulli(logits.expand(5, -1, -1, -1, -1)).log_prob(x), expected)
    torch.testing.assert_close(Bernoulli(logits).mean, td.Bernoulli(logits=logits).mean)


def test_bernoulli_of_grey_values_is_the_cross_entropy():
    logits, x = torch.randn(3, 1, 2, 4).double(), torch.rand(3, 1, 2, 4).double()
    p = logits.sigmoid()
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)))


def test_gaussian_kl():
    q, p = ((torch.randn(3, 4).double(), torch.randn(3, 4).double()) for _ in range(2))
    normals = [td.Normal(loc, (log_var / 2).exp()) for loc, log_var in (q, p)]
    torch.testing.assert_close(gaussian_kl(Gaussian(*q), Gaussian(*p)), td.kl_divergence(*normals))


def test_gaussian_mixture():
    """With one triangular factor per component: precision P Pᵀ."""
    weights, locs = torch.randn(3).log_softmax(0), torch.randn(3, 4)
    factors = torch.randn(3, 4, 4).triu(1) + torch.diag_embed(torch.rand(3, 4) + 0.5)
    x = torch.randn(7, 4)
    normals = td.MultivariateNormal(locs, precision_matrix=factors @ factors.mT)
    expected = td.MixtureSameFamily(td.Categorical(logits=weights), normals)
    got = GaussianMixture(weights, locs, factors, (4,))
    torch.testing.assert_close(got.log_prob(x), expected.log_prob(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.mean, expected.mean)
    drawn = got.sample((40_000,))
    for component in (drawn, expected.sample((40_000,))):
        assert component.shape == (40_000, 4)
    torch.testing.assert_close(drawn.var(0), expected.variance, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("scale", [0.004, 0.1, 2.0])
def test_a_level_takes_the_mass_of_its_bin(scale):
    loc, levels = 0.2, np.arange(256)
    upper = np.where(levels == 255, np.inf, (2 * levels + 1) / 255 - 1)
    lower = np.where(levels == 0, -np.inf, (2 * levels - 1) / 255 - 1)
    law = stats.logistic(loc, scale)
    # on the right of the mode the survival function is the accurate one
    mass = np.where(lower > loc, law.sf(lower) - law.sf(upper), law.cdf(upper) - law.cdf(lower))
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    d = LogisticMixture(0 * one, loc * one, math.log(scale) * one, 0 * one[None])
    got = d.log_prob(torch.from_numpy(levels / 255).reshape(256, 1, 1, 1)).exp()
    np.testing.assert_allclose(got, mass, rtol=1e-9, atol=1e-15)


def test_the_chain_shifts_by_the_channels_before():
    """(Salimans et al., 2017, Eq. 3): μ_g + α r, then μ_b + β r + γ g, on values in [−1, 1]."""
    mu, (alpha, beta, gamma), s = (0.1, -0.2, 0.3), (0.5, -0.4, 0.7), 0.05
    chain = torch.zeros(1, 3, 3, 1, 1, dtype=torch.float64)
    chain[0, 1, 0], chain[0, 2, 0], chain[0, 2, 1] = alpha, beta, gamma
    means = torch.tensor(mu, dtype=torch.float64).reshape(1, 3, 1, 1)
    d = LogisticMixture(torch.zeros(1, 1, 1, 1).double(), means, torch.full_like(means, math.log(s)), chain)
    levels = np.array([140, 120, 200])
    r, g, b = 2 * levels / 255 - 1
    locs = (mu[0], mu[1] + alpha * r, mu[2] + beta * r + gamma * g)
    expected = sum(np.log(expit((v - m + 1 / 255) / s) - expit((v - m - 1 / 255) / s))
                   for v, m in zip((r, g, b), locs, strict=True))
    got = d.log_prob(torch.from_numpy(levels / 255).reshape(3, 1, 1))
    assert got.item() == pytest.approx(expected, rel=1e-9)


def test_constants():
    zero = torch.zeros(1, dtype=torch.float64)
    assert -Gaussian(zero, zero).log_prob(zero).item() == pytest.approx(0.9189385332046727)  # ½ log 2π
    assert -Laplace(zero, zero).log_prob(zero).item() == pytest.approx(math.log(2))
    assert gaussian_kl(Gaussian(zero + 1, zero), Gaussian(zero, zero)).item() == pytest.approx(0.5)
    # an even guess of a binary MNIST image costs 784 bits, 543.43 nats
    even = Bernoulli(torch.zeros(1, 28, 28)).log_prob(torch.rand(1, 28, 28).round())
    assert -even.item() == pytest.approx(543.427, abs=1e-2)
    assert Normal(Space((3,)))().log_prob(torch.zeros(3)).item() == pytest.approx(-1.5 * math.log(2 * math.pi))


@pytest.mark.parametrize(("name", "plain"), [
    ("adamw(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)",
     lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.9), weight_decay=0.1, fused=False, foreach=False)),
    ("adam(0.01, betas=(0.8, 0.9))", lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9), fused=False, foreach=False)),
    ("adamax(0.01)", lambda p: torch.optim.Adamax(p, 0.01, (0.9, 0.999), foreach=False)),
])
def test_optimizers_step_as_the_plain_ones(name, plain):

    start, gradients = torch.randn(5, 3), torch.randn(4, 5, 3)
    ends = []
    for make in (lambda p: ROLES["optimizer"].make(name, p), plain):
        p = torch.nn.Parameter(start.clone())
        optimizer = make([p])
        for g in gradients:
            p.grad = g.clone()
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(*ends)


def test_lion_moves_by_the_sign_of_a_momentum():
    """w ← (1 − lr·λ)·w − lr·sign(β₁·m + (1 − β₁)·g), m ← β₂·m + (1 − β₂)·g (Chen et al., 2023, Algorithm 2)"""
    w, gradients = torch.randn(5, 3), torch.randn(4, 5, 3)
    p, m = torch.nn.Parameter(w.clone()), torch.zeros_like(w)
    optimizer = ROLES["optimizer"].make("lion(0.01, betas=(0.8, 0.9), weight_decay=0.1)", [p])
    for g in gradients:
        p.grad = g.clone()
        optimizer.step()
        w = (1 - 0.01 * 0.1) * w - 0.01 * (0.8 * m + 0.2 * g).sign()
        m = 0.9 * m + 0.1 * g
    torch.testing.assert_close(p.detach(), w)


def test_adan_by_its_formulas():
    """Xie et al., 2022, Algorithm 1, with the debiasing of its section on implementation; λ decays as a proximal step."""
    w, gradients = torch.randn(5, 3), torch.randn(5, 5, 3)
    p, (a, b, c) = torch.nn.Parameter(w.clone()), (0.98, 0.92, 0.99)
    optimizer = ROLES["optimizer"].make("adan(0.01, betas=(0.98, 0.92, 0.99), weight_decay=0.1)", [p])
    m, v, n, before = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w), gradients[0]
    for k, g in enumerate(gradients, 1):
        p.grad = g.clone()
        optimizer.step()
        difference, before = g - before, g
        m, v = a * m + (1 - a) * g, b * v + (1 - b) * difference
        n = c * n + (1 - c) * (g + b * difference) ** 2
        scale = 0.01 / ((n / (1 - c**k)).sqrt() + 1e-8)
        w = (1 - 0.01 * 0.1) * w - scale * (m / (1 - a**k) + b * v / (1 - b**k))
    torch.testing.assert_close(p.detach(), w, rtol=1e-4, atol=1e-6)


def test_muon_makes_matrices_orthogonal_and_kernels_too():
    matrix, kernel, bias = torch.randn(6, 10), torch.randn(8, 3, 3, 3), torch.randn(8)
    parameters = [torch.nn.Parameter(t.clone()) for t in (matrix, kernel, bias)]
    optimizer = ROLES["optimizer"].make("muon(0.1, adam_lr=0.01)", parameters)
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer.step()
    for before, p in zip((matrix, kernel), parameters, strict=False):
        moved = (before - p.detach()).flatten(1)
        values = torch.linalg.svdvals(moved)
        assert values.min() > 0.4 * values.max(), "the Newton-Schulz steps leave singular values between 0.7 and 1.2"
    torch.testing.assert_close((bias - parameters[2].detach()).abs(), torch.full((8,), 0.01))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 3, 3, 3)], ids=str)
def test_newton_and_schulz_by_their_steps(shape):
    """X ← a X + b X Xᵀ X + c (X Xᵀ)² X, five times, of matrices of any condition."""
    m = (torch.randn(2, *shape) * torch.rand(2, 1, *shape[1:]) ** 4).flatten(2)
    x = m.double() / m.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        g = x @ x.mT
        x = 3.4445 * x - 4.775 * g @ x + 2.0315 * g @ g @ x
    torch.testing.assert_close(orthogonal(m), x.float(), rtol=1e-3, atol=1e-3)


def test_muon_is_that_of_the_package():
    from pytorch_optimizer import Muon

    starts = [torch.randn(6, 10), torch.randn(8, 3, 3, 3), torch.randn(8)]
    ours, theirs = ([torch.nn.Parameter(t.clone()) for t in starts] for _ in range(2))
    optimizers = (ROLES["optimizer"].make("muon(0.02, adam_lr=0.01, weight_decay=0.1)", ours),
                  Muon([{"params": theirs[:2], "use_muon": True}, {"params": theirs[2:], "use_muon": False}], lr=0.02,
                       weight_decay=0.1, adamw_lr=0.01, adamw_betas=(0.9, 0.99), adamw_wd=0.1))
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0.02, atol=2e-3)  # theirs multiplies in bfloat16


def test_soap_does_not_depend_on_the_axes_and_adam_does():
    """Where weights and gradients are turned, so are the steps: Adam in bases that turn with them (Vyas et al., 2024)."""
    w, gradients = torch.randn(4, 4).double(), torch.randn(8, 4, 4).double()
    turn = torch.linalg.qr(torch.randn(4, 4).double()).Q
    for name, alike in (("soap(0.01, every=2)", True), ("adamw(0.01)", False)):
        plain, turned = torch.nn.Parameter(w.clone()), torch.nn.Parameter(turn @ w)
        for p, way in ((plain, torch.eye(4).double()), (turned, turn)):
            optimizer = ROLES["optimizer"].make(name, [p])
            for g in gradients:
                p.grad = way @ g
                optimizer.step()
        assert (plain - w).abs().max() > 0.01
        assert torch.allclose(turn @ plain, turned, atol=1e-6) == alike


def test_schedule_free_by_its_formulas():
    """Defazio et al., 2024: gradients at y = (1 − β₁) z + β₁ x, x the mean of all z, weighted by their squared rates."""
    w, gradients, rates = torch.randn(5, 3), torch.randn(5, 5, 3), (0.002, 0.006, 0.01, 0.01, 0.01)
    p = torch.nn.Parameter(w.clone())
    optimizer = ROLES["optimizer"].make("schedule_free(0.01, betas=(0.8, 0.9), weight_decay=0.1)", [p])
    z, v, x = w, torch.zeros_like(w), torch.zeros_like(w)
    for k, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        optimizer.param_groups[0]["lr"] = rate
        y, p.grad = p.detach().clone(), g.clone()
        optimizer.step()
        v = 0.9 * v + 0.1 * g**2
        z = z - rate * (g / ((v / (1 - 0.9**k)).sqrt() + 1e-8) + 0.1 * y)
        x = x + rate**2 * z
    x = x / sum(rate**2 for rate in rates)
    torch.testing.assert_close(optimizer.average(p), x)
    torch.testing.assert_close(p.detach(), 0.2 * z + 0.8 * x)


def test_schedule_free_is_that_of_the_package():
    from pytorch_optimizer import ScheduleFreeAdamW

    w, gradients = torch.randn(5, 3), torch.randn(6, 5, 3)
    ours, theirs = (torch.nn.Parameter(w.clone()) for _ in range(2))
    optimizers = (ROLES["optimizer"].make("schedule_free(0.01, betas=(0.8, 0.9), weight_decay=0.1)", [ours]),
                  ScheduleFreeAdamW([theirs], lr=0.01, betas=(0.8, 0.9), weight_decay=0.1))
    for g in gradients:
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    optimizers[1].eval()
    torch.testing.assert_close(optimizers[0].average(ours), theirs.detach())
