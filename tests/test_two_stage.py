"""A second VAE over codes: its bound against quadrature, its draws against its density, a fit against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from reparam.models.priors.two_stage import TwoStage
from reparam.models.space import Space


def moved(dims=1, hidden=8):
    """Away from its start, with N(0, I) for q(u | z), which is wide and not the posterior."""
    prior = TwoStage(Space((dims,)), hidden)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.5 * torch.randn_like(p))
        for p in prior.encoder[-1].parameters():
            p.zero_()
        prior.log_var.fill_(-1.5)
        prior.standardized.loc.fill_(0.7)
        prior.standardized.scale.fill_(1.6)
    return prior


def exactly(prior, z):
    """log p(z) by the trapezoidal rule over u."""
    u = torch.linspace(-9, 9, 4001)[:, None]
    with torch.no_grad():
        x = prior.decoder(u)
        noise = 10 * torch.tanh(prior.log_var / 10)
        log_px = -0.5 * ((prior.standardized(z)[:, None] - x) ** 2 * (-noise).exp() + noise + math.log(2 * math.pi)).sum(-1)
        log_u = -0.5 * (u**2 + math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(log_px + log_u, 1) + math.log(18 / 4000) - math.log(1.6)


def test_the_density_is_a_lower_bound_that_tightens():
    prior, z = moved(), torch.randn(40, 1) * 1.6 + 0.7
    exact = exactly(prior, z)
    with torch.no_grad():
        loose = torch.stack([prior.log_weights(z, 1)[0] for _ in range(400)]).mean(0)
        tight = torch.stack([prior().log_prob(z) for _ in range(40)]).mean(0)
    assert (loose < exact + 0.15).all() and (tight < exact + 0.05).all()
    assert (exact - tight).mean() < 0.25 * (exact - loose).mean() and (exact - tight).mean() < 0.1


def test_draws_are_those_of_the_density():
    prior = moved()
    points = torch.linspace(-12, 14, 2001)[:, None]
    mass = exactly(prior, points).exp().double() * 26 / 2000
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)
    drawn = prior().sample((5_000,))[:, 0].numpy()
    assert stats.kstest(drawn, lambda v: np.interp(v, points[:, 0].numpy(), mass.cumsum(0).numpy())).pvalue > 1e-3
    assert prior().tempered((500,), 0.3).std() < prior().sample((500,)).std()


def ring(n):
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([angle.cos(), angle.sin()], 1) * (3 + 0.2 * torch.randn(n, 1))


def test_it_learns_a_ring_that_no_gaussian_is():
    codes, held_out = ring(4000), ring(1000)
    prior = TwoStage(Space((2,)), 64)
    prior.prepare(codes)
    optimizer = torch.optim.Adam(prior.parameters(), 4e-3)
    for step in range(700):
        loss = prior.loss(codes[torch.randint(0, 4000, (256,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learned = float(prior().log_prob(held_out).mean())
    gaussian = stats.multivariate_normal(codes.mean(0).numpy(), np.cov(codes.T.numpy())).logpdf(held_out.numpy()).mean()
    radius = held_out.norm(dim=1).numpy()
    truth = float((stats.norm(3, 0.2).logpdf(radius) - np.log(2 * math.pi * radius)).mean())
    assert gaussian + 0.6 < learned < truth + 0.05
    radii = prior().sample((4000,)).norm(dim=1)
    assert ((radii > 2) & (radii < 4)).float().mean() > 0.7  # a Gaussian has 0.47 there


def test_the_bound_has_its_gradient():
    """What `SecondStage.log_prob` averages, at draws that stay the same."""
    prior, z = moved(2).double(), torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def log_weights(z):
        torch.manual_seed(5)
        return prior.log_weights(z, 4)

    assert torch.autograd.gradcheck(log_weights, (z,))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_shapes(shape):
    prior = TwoStage(Space(shape), 8)
    z = torch.randn(5, *shape)
    prior.prepare(z)
    assert prior.loss(z).shape == (5,) and prior().log_prob(torch.randn(2, 5, *shape)).shape == (2, 5)
    assert prior().sample((2, 3)).shape == (2, 3, *shape) and prior().mean.shape == shape
