"""Draws as functions of noise: the same law as the densities say, whatever program computes them."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from reparam.distributions import Gaussian, RelaxedBernoulli, RelaxedCategorical, uniform
from reparam.distributions.base import choice
from reparam.distributions.hyperbolic import WrappedNormal
from reparam.models.draw import Draw

N = 4_000
LAWS = {
    "gaussian": Gaussian(torch.tensor([0.5, -2.0]), torch.tensor([0.3, -1.0])),
    "bits": RelaxedBernoulli(torch.tensor([0.5, -2.0]), 0.4),
    "classes": RelaxedCategorical(torch.tensor([0.5, -2.0, 1.0, 0.0]), 0.7, 2),
    "hyperbolic": WrappedNormal(torch.tensor([0.5, -1.0]), torch.tensor([0.3, -1.0])),
}


@pytest.mark.parametrize("law", LAWS)
def test_draws_of_noise_have_the_law_of_other_draws(law):
    """Kolmogorov and Smirnov's test of each dimension against `rsample`, which has random numbers of its own."""
    d = LAWS[law]
    made, drawn = d.from_noise(d.noise(N)).flatten(1), d.sample((N,)).flatten(1)
    assert made.shape == drawn.shape
    for a, b in zip(made.T.numpy(), drawn.T.numpy(), strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-3
    assert not torch.equal(d.from_noise(d.noise(3)), d.from_noise(d.noise(3)))
    u = d.noise(3)
    assert torch.equal(d.from_noise(u), d.from_noise(u))


def test_uniform_numbers_lie_strictly_between_0_and_1():
    u = uniform(torch.tensor([-40.0, -1.0, 0.0, 1.0, 40.0]))
    assert u[0] > 0 and u[-1] < 1 and u.log().isfinite().all() and (-u.log()).log().isfinite().all()
    torch.testing.assert_close(u[1:4], torch.distributions.Normal(0, 1).cdf(torch.tensor([-1.0, 0.0, 1.0])))


def test_events_are_chosen_as_often_as_they_are_likely():
    p = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    seen = torch.bincount(choice(p, torch.randn(N)), minlength=6)
    assert seen[p == 0].sum() == 0
    assert stats.chisquare(seen[p > 0].numpy(), N * p[p > 0].numpy()).pvalue > 1e-3
    rows = torch.eye(3)
    assert choice(rows, torch.tensor([-9.0, 0.0, 9.0])).tolist() == [0, 1, 2]


def test_a_model_draws_what_its_noise_says(small):
    latent = small((1, 8, 8)).eval().latent
    torch.manual_seed(3)
    u = latent.noise(4)
    torch.manual_seed(3)
    assert torch.equal(latent.generate(4, Draw(0.5))[0], latent.from_noise(u, Draw(0.5)))
