"""Codes uniform by a metric's volume: the volume against determinants and autograd, Hamiltonian Monte Carlo against
quadrature and closed forms, and the prior that is fitted to a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import trained_stage
from scipy import stats

from reparam.distributions import uniform
from reparam.downstream.sampling import Keep, draw_codes
from reparam.errors import UsageError
from reparam.models.centroids import Centroids
from reparam.models.priors.riemannian import DECAY, FLOOR, Riemannian, RiemannianUniform
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


def some_volume(k=4, d=3, width=1.5):
    return RiemannianUniform(Centroids(torch.randn(k, d).double(), 0.2 + torch.rand(k, d).double(), width), (d,))


def test_the_volume_is_the_root_of_the_determinant_and_its_slope_autograds():
    p, z = some_volume(), torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    near = p.centroids
    for at, told in zip(z.detach(), p.log_volume(z.detach()), strict=True):
        metric = FLOOR * math.exp(-DECAY * float(at @ at)) * torch.eye(3).double()
        for mean, variance in zip(near.means, near.variances, strict=True):
            precision = torch.linalg.inv(torch.diag(variance))
            metric += torch.exp(-(at - mean) @ precision @ (at - mean) / near.width**2) * precision
        assert float(told) == pytest.approx(0.5 * float(torch.logdet(metric)), abs=1e-9)
    torch.testing.assert_close(p.slope(z), torch.autograd.grad(p.log_volume(z).sum(), z)[0])
    far = 40 * torch.randn(5, 3)  # where float32 holds none of the weights
    single = RiemannianUniform(near.to(far), (3,))
    assert single.log_volume(far).isfinite().all() and single.slope(far).isfinite().all()


def test_relative_log_prob_of_a_riemannian_uniform_has_its_gradient():
    assert torch.autograd.gradcheck(some_volume().log_volume, (torch.randn(4, 3, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_around_one_centroid_draws_are_gaussian(temperature):
    d = 6
    mean, variance = 5 + torch.randn(1, d), torch.linspace(0.01, 2, d)[None]
    p = RiemannianUniform(Centroids(mean, variance, 1.3 * math.sqrt(d)), (d,))
    z = p.tempered((4000,), temperature)
    u = ((z - mean) / (temperature * 1.3 * variance.sqrt())).double().numpy()
    assert np.abs(u.mean(0)).max() < 4 / 4000**0.5 and np.abs(u.std(0) - 1).max() < 4 / (2 * 4000) ** 0.5
    assert np.abs(np.corrcoef(u.T) - np.eye(d)).max() < 0.08


def test_draws_without_noise_are_peaks_and_centroids_where_these_stand_apart():
    p = some_volume()
    z = p.tempered((50,), 0.0)
    assert p.slope(z).abs().max() < 1e-3  # nothing is likelier nearby
    assert (p.log_volume(z) + 1e-6 >= p.log_volume(p.centroids.means).min()).all()
    apart = RiemannianUniform(Centroids(20 * torch.eye(3), torch.ones(3, 3), 1.0), (3,))
    assert torch.cdist(apart.tempered((50,), 0.0), apart.centroids.means).amin(1).max() < 1e-4


def overlapping():
    """Two centroids in one dimension whose kernels overlap, and the distribution function of their volume."""
    p = RiemannianUniform(Centroids(torch.tensor([[0.0], [1.5]]), torch.tensor([[0.5], [1.5]]), 1.0), (1,))
    points = torch.linspace(-12, 14, 8001)[:, None]
    mass = p.log_volume(points).exp().double()
    return p, points[:, 0].double().numpy(), (mass.cumsum(0) / mass.sum()).numpy()


def test_hamiltonian_moves_leave_the_density_as_it_is():
    p, points, cdf = overlapping()
    exact = torch.from_numpy(np.interp(np.random.default_rng(0).random(20_000), cdf, points)).float()[:, None]
    moved = p.moved(exact, torch.full_like(exact, 1.2), torch.randn(len(exact), 3, exact.shape[1] + 2))
    assert (moved != exact).float().mean() > 0.9
    assert stats.kstest(moved[:, 0].numpy(), lambda v: np.interp(v, points, cdf)).pvalue > 1e-3


def test_draws_have_the_density():
    p, points, cdf = overlapping()
    assert stats.kstest(p.sample((20_000,))[:, 0].numpy(), lambda v: np.interp(v, points, cdf)).pvalue > 1e-3


def test_most_moves_are_accepted_in_many_dimensions():
    p = RiemannianUniform(Centroids(torch.randn(20, 64), torch.rand(20, 64) * 0.1 + 0.01, 8.0), (64,))
    chosen = torch.randint(20, (500,))
    scale = p.centroids.variances[chosen].sqrt()
    z = p.centroids.means[chosen] + scale * torch.randn(500, 64)
    assert (p.moved(z, scale, torch.randn(len(z), 1, z.shape[1] + 2)) != z).any(1).float().mean() > 0.7


def test_it_says_that_it_has_no_density():
    p = some_volume()
    with pytest.raises(UsageError, match="up to a constant only"):
        p.log_prob(torch.zeros(1, 3))


def gaussian_model(small, **changes):
    recipe = Recipe(**{"latent": "flat(4)", "likelihood": "gaussian(sigma=0.3)", "fitted_prior": "riemannian(20, 0.5)",
                       **changes})
    return Sampler(small((1, 4, 4), moved=0.3, **changes).eval()), recipe


@pytest.mark.parametrize("changes", [{}, {"posterior": "full"}, {"latent": "spatial(2, 2)"}], ids=str)
def test_it_is_fitted_to_posteriors(small, images, changes, adds_only):
    sampler, recipe = gaussian_model(small, **changes)
    x = images(200, (1, 4, 4))
    adds_only(sampler, "fitted_prior", lambda sampler: trained_stage("fitted_prior", sampler, recipe, x))
    prior = sampler.fitted_prior
    assert isinstance(prior, Riemannian) and 10 < len(prior.means) <= 20 and prior.spread == 0.5
    q = sampler.model.latent.posterior(sampler.model.encoder(x))
    row = torch.cdist(prior.means, q.mean.flatten(1)).argmin(1)
    torch.testing.assert_close(prior.means, q.mean.flatten(1)[row])
    torch.testing.assert_close(prior.log_vars, q.log_var.flatten(1)[row])
    model = ImageModel(sampler, Config(recipe, (1, 4, 4)))
    likely = draw_codes(model, 10, keep=Keep(typical=0.3), seed=0)
    plain = draw_codes(model, 34, seed=0)
    volume = prior().relative_log_prob
    assert volume(likely).min() >= volume(plain).sort(descending=True).values[9] - 1e-4


LADDER = {"latent": "top_down(3, (1, 2), 2, 8, 2)", "encoder": "resnet(width=8, patch=2)",
          "decoder": "resnet(width=8, patch=1)"}


@pytest.mark.parametrize("changes", [{"posterior": "iaf"}, LADDER], ids=str)
def test_other_posteriors_are_refused(small, images, changes):
    sampler, recipe = gaussian_model(small, **changes)
    with pytest.raises(UsageError, match="made of Gaussian posteriors"):
        trained_stage("fitted_prior", sampler, recipe, images(20, (1, 4, 4)))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_shapes(shape):
    p = Riemannian(Space(shape), 5)()
    assert p.sample((2, 3)).shape == (2, 3, *shape) and p.relative_log_prob(torch.randn(2, 5, *shape)).shape == (2, 5)
    u = p.noise(7)
    begun = p.centroids.means[(uniform(u[:, 0]) * 5).long()].reshape(7, *shape)
    assert (p.relative_log_prob(p.from_noise(u, 0.0)) >= p.relative_log_prob(begun) - 1e-4).all()
