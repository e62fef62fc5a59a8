"""A lower temperature draws what is likelier, of every prior: each hump cools by itself, nothing comes to lie between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from reparam.distributions.base import Distribution
from reparam.distributions.gaussian import Gaussian
from reparam.distributions.sphere import UniformSphere
from reparam.errors import UsageError
from reparam.models.draw import Draw
from reparam.models.posteriors.flow import FlowedGaussian
from reparam.models.priors import GaussianMixture
from reparam.models.priors.vamp import EvenMixture
from reparam.nets.autoregressive import Autoregressions, Autoregressive
from reparam.parts.registry import ROLES

MODES, DIM, SIGMA = 10, 3, 0.1
COOL = [1.0, 0.7, 0.5, 0.0]


def ten_modes():
    """Means on a circle, far apart for their width, and weights from 1 to 10."""
    angle = torch.arange(MODES) * 2 * math.pi / MODES
    locs = 4 * torch.stack([angle.cos(), angle.sin(), torch.zeros(MODES)], 1)
    return locs, torch.arange(1.0, MODES + 1) / (MODES * (MODES + 1) / 2)


def mixture():
    locs, weights = ten_modes()
    return GaussianMixture(weights.log(), locs, torch.eye(DIM).expand(MODES, DIM, DIM) / SIGMA, (DIM,)), weights


def even():
    locs, _ = ten_modes()
    return EvenMixture(Gaussian(locs, torch.full_like(locs, 2 * math.log(SIGMA)))), torch.full((MODES,), 1 / MODES)


@pytest.mark.parametrize("law", [mixture, even])
@pytest.mark.parametrize("temperature", COOL)
def test_each_of_ten_modes_cools_by_itself(law, temperature):
    """Apart as they are, E log p = Σ_m w_m log w_m − D/2 (log 2πσ² + T²), and the modes keep their weights."""
    p, weights = law()
    z = p.tempered((20_000,), temperature)
    expected = (weights * weights.log()).sum() - DIM / 2 * (math.log(2 * math.pi * SIGMA**2) + temperature**2)
    assert p.log_prob(z).mean().item() == pytest.approx(expected.item(), abs=0.05)
    nearest = torch.cdist(z, ten_modes()[0]).argmin(1)
    assert (torch.bincount(nearest, minlength=MODES) / len(z) - weights).abs().max() < 0.015
    spread = (z - ten_modes()[0][nearest]).std()
    assert spread.item() == pytest.approx(temperature * SIGMA, rel=0.03)


def moved(module):
    """Off the identity that it starts as."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


@pytest.mark.parametrize("text", ["flow(3, hidden=8)", "autoregressive_flow(2, hidden=8)",
                                  "spline_flow(2, bins=4, hidden=8)"])
@pytest.mark.parametrize("temperature", COOL)
def test_a_flow_cools_the_noise_that_it_begins_from(text, temperature, space_of):
    prior = moved(ROLES["prior"].make(text, space_of("flow", (4,))))
    with torch.no_grad():
        noise, _ = prior.encode(prior.draw((4000,), Draw(temperature)))
    assert noise.mean().abs() < 0.05
    torch.testing.assert_close(noise.std(0), torch.full((4,), temperature), rtol=0.05, atol=1e-4)


def test_a_posterior_that_flows_cools_the_gaussian_before_it():
    flow = moved(Autoregressions([Autoregressive(3, 8, context=2)]))
    base = Gaussian(torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[-1.0, 0.0, 1.0]]))
    q = FlowedGaussian(base, flow, torch.randn(1, 2), (3,))
    torch.testing.assert_close(q.tempered((2,), 0.0), q.mean.detach().expand(2, 1, 3))
    z = q.tempered((4000,), 0.5)
    assert not z.requires_grad and not q.drawn
    with torch.no_grad():
        u = flow.inverse(z, q.context)
    torch.testing.assert_close(u.std(0), 0.5 * (base.log_var / 2).exp(), rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("name", sorted(ROLES["prior"].parts))
def test_cooler_draws_of_every_prior_are_likelier(name, written, space_of):
    prior = moved(ROLES["prior"].make(written(ROLES["prior"], name), space_of(name, (4,)))).eval()
    with torch.no_grad():
        p = prior()
        log_p = [p.relative_log_prob(prior.draw((500,), Draw(t))).mean().item() for t in COOL]
    if isinstance(p, UniformSphere) or name == "uniform":
        assert log_p == pytest.approx([log_p[0]] * len(COOL))
    else:
        assert log_p == sorted(log_p) and log_p[-1] > log_p[0] + 0.1


@dataclass(frozen=True)
class Coin(Distribution):
    """Heads or tails."""

    mean = torch.tensor(0.5)

    def sample(self, shape=()):
        return torch.randint(2, shape).float()

    def log_prob(self, value):
        return torch.full_like(value, -math.log(2))


def test_a_law_without_a_way_to_cool_is_not_cooled():
    assert set(Coin().tempered((50,), 1.0).tolist()) == {0, 1}
    with pytest.raises(UsageError, match="draws of a Coin have no temperature"):
        Coin().tempered((2,), 0.5)
