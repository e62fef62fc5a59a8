"""The wrapped normal in hyperbolic space, against quadrature, the hyperboloid model and the closed Gaussian."""

from __future__ import annotations

import math

import pytest
import torch

from reparam.distributions.base import kl
from reparam.distributions.gaussian import Gaussian
from reparam.distributions.hyperbolic import WrappedNormal, from_ball, log_sinhc, mobius_add, to_ball
from reparam.objectives.objective import parse_objective

F64 = {"dtype": torch.float64}


def on_hyperboloid(u):
    """Points in normal coordinates as points (cosh r, sinh r · direction) of the hyperboloid."""
    r = u.norm(dim=-1, keepdim=True)
    return torch.cat([r.cosh(), r.sinh() * u / r], -1)


def distance(u, v):
    """arcosh of minus the Lorentz product."""
    a, b = on_hyperboloid(u), on_hyperboloid(v)
    return torch.acosh((a[..., 0] * b[..., 0] - (a[..., 1:] * b[..., 1:]).sum(-1)).clamp(min=1))


def square(half, n):
    x = torch.linspace(-half, half, n, **F64)
    return torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).flatten(0, 1), (2 * half / (n - 1)) ** 2


@pytest.mark.parametrize("loc", [(0.0, 0.0), (1.5, -0.5), (0.1, 2.0)])
def test_the_density_integrates_to_one(loc):
    q = WrappedNormal(torch.tensor(loc, **F64), torch.tensor([-1.0, 0.3], **F64))
    at, cell = square(9, 1201)
    assert float(q.log_prob(at).exp().sum() * cell) == pytest.approx(1, abs=1e-4)


def test_at_the_origin_it_is_a_gaussian():
    log_var, at = torch.randn(5, **F64), torch.randn(7, 5, **F64)
    zero = torch.zeros(5, **F64)
    assert torch.allclose(WrappedNormal(zero, log_var).log_prob(at), Gaussian(zero, log_var).log_prob(at))


def test_translation_keeps_distances():
    u, v, x = torch.randn(3, 6, 4, **F64)
    moved = [from_ball(mobius_add(to_ball(x), to_ball(each))) for each in (u, v)]
    assert torch.allclose(distance(*moved), distance(u, v), atol=1e-7)
    assert torch.allclose(from_ball(mobius_add(-to_ball(x), to_ball(moved[0]))), u, atol=1e-8)
    assert torch.allclose(distance(u, 1e-9 * u), u.norm(dim=-1), atol=1e-7)


@pytest.mark.parametrize("dims", [2, 7])
def test_draws_are_as_far_from_the_centre_as_the_gaussian_says(dims):
    loc = torch.randn(dims, **F64)
    q = WrappedNormal(loc, torch.full((dims,), -1.0, **F64))
    r = distance(q.sample((40_000,)), loc)
    expected = math.exp(-0.5) * math.sqrt(2) * math.exp(math.lgamma((dims + 1) / 2) - math.lgamma(dims / 2))
    assert float(r.mean()) == pytest.approx(expected, abs=4 * float(r.std()) / 200)
    assert float(distance(q.tempered((9,), 0.5), loc).mean()) < float(r.mean())


def test_draws_are_those_of_the_density():
    """E_q[p/q] = 1."""
    q = WrappedNormal(torch.tensor([1.0, 0.5], **F64), torch.tensor([0.0, 0.2], **F64))
    p = WrappedNormal(torch.tensor([0.8, 0.3], **F64), torch.tensor([-0.5, -0.4], **F64))
    z = q.sample((100_000,))
    ratio = (p.log_prob(z) - q.log_prob(z)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / 316)


def test_gradients_of_draws_are_those_of_finite_differences():
    loc, log_var = torch.randn(3, **F64), torch.randn(3, **F64)

    def value(m, s):
        torch.manual_seed(3)
        q = WrappedNormal(m, s)
        z = q.rsample((2,))
        return torch.stack([z.square().sum(), q.log_prob(z).sum()])

    assert torch.autograd.gradcheck(value, (loc.requires_grad_(), log_var.requires_grad_()))


@pytest.mark.parametrize("r", [0.0, 1e-4, 0.5, 9.0])
def test_log_sinhc(r):
    expected = math.log(math.sinh(r) / r) if r else 0.0
    assert float(log_sinhc(torch.tensor(r, **F64))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("latent", ["flat(6)", "spatial(4, 3)"])
def test_a_model_learns_with_it(small, images, latent):
    vae = small((3, 6, 5), posterior="hyperbolic", latent=latent)
    x = images(8, (3, 6, 5))
    trace = vae(x, samples=2)
    (layer,) = trace.layers
    assert layer.q.mean.norm(dim=1).max() < 10 and kl(layer.q, layer.p, layer.z).shape == (2, 8)
    parse_objective("nll + kl")(trace).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
