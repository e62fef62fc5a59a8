"""Planar and radial flows, against autograd's Jacobian, their own inverses and the Gaussian that they start at."""

from __future__ import annotations

import pytest
import torch

from reparam.distributions.gaussian import Gaussian
from reparam.models.posteriors.flow import FlowedGaussian
from reparam.models.posteriors.planar import Planes, Spheres
from reparam.objectives.objective import parse_objective

F64 = {"dtype": torch.float64}
every_flow = pytest.mark.parametrize("kind", [Planes, Spheres])


def flow_of(kind, dims=4, transforms=3, batch=5, scale=1.5):
    flow = kind(dims, transforms)
    return flow, scale * torch.randn(batch, transforms * flow.numbers, **F64)


@every_flow
def test_log_determinants_are_those_of_the_jacobian(kind):
    flow, context = flow_of(kind)
    for u, c in zip(torch.randn(5, 4, **F64), context, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v, c=c: flow(v[None], c[None])[0][0], u)
        assert torch.allclose(flow(u[None], c[None])[1][0], jacobian.det().abs().log(), atol=1e-8)


@every_flow
def test_the_inverse_takes_draws_back(kind):
    flow, context = flow_of(kind)
    u = 2 * torch.randn(3, 5, 4, **F64)
    assert torch.allclose(flow.inverse(flow(u, context)[0], context), u, atol=1e-8)


@every_flow
def test_raw_numbers_of_zero_change_nothing(kind):
    flow, context = flow_of(kind, scale=0.0)
    u = torch.randn(5, 4, **F64)
    z, log_det = flow(u, context)
    assert torch.allclose(z, u) and torch.allclose(log_det, torch.zeros(5, **F64))


@every_flow
def test_the_density_integrates_to_one(kind):
    flow, context = flow_of(kind, dims=2, batch=1)
    q = FlowedGaussian(Gaussian(torch.zeros(1, 2, **F64), torch.zeros(1, 2, **F64)), flow, context, (2,))
    x = torch.linspace(-9, 9, 601, **F64)
    at = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 1, 2)
    assert float(q.log_prob(at).exp().sum() * (18 / 600) ** 2) == pytest.approx(1, abs=2e-3)


@every_flow
def test_a_draw_knows_its_density(kind):
    flow, context = flow_of(kind)
    q = FlowedGaussian(Gaussian(torch.randn(5, 4, **F64), torch.randn(5, 4, **F64)), flow, context, (4,))
    z = q.rsample((2,))
    assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-7)


@pytest.mark.parametrize("latent", ["flat(4)", "spatial(2, 3)"])
@pytest.mark.parametrize("posterior", ["planar(3)", "radial(3)"])
def test_a_model_learns_with_it(small, images, posterior, latent):
    vae = small((3, 6, 5), posterior=posterior, latent=latent)
    trace = vae(images(8, (3, 6, 5)), samples=2)
    parse_objective("nll + kl")(trace).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
