"""Likelihood regret: never negative, nothing at an optimum, and what an encoder that is moved off loses."""

from __future__ import annotations

import pytest
import torch

from reparam.downstream.regret import bound, encoded, fitted, regret
from reparam.errors import UsageError
from reparam.parts.recipe import Recipe
from reparam.pretrained.config import Config
from reparam.pretrained.image_model import ImageModel


def wrapped(vae, **changes):
    from reparam.models.sampler import Sampler

    recipe = Recipe(likelihood="gaussian(sigma=0.3)", latent="flat(4)").but(**changes)
    return ImageModel(Sampler(vae.eval()), Config(recipe, (1, 4, 4)))


def test_regret_is_what_is_gained_and_nothing_at_an_optimum(small):
    model, x = wrapped(small((1, 4, 4), moved=0.3)), torch.rand(6, 1, 4, 4)
    found = regret(model, x)
    assert found.shape == (6,) and (found >= 0).all() and found.mean() > 0.3  # an untrained encoder is a poor one
    best = fitted(model, x, encoded(model, x), steps=400)
    again = fitted(model, x, best, seed=7)
    gained = bound(model, x, again, draws=500) - bound(model, x, best, draws=500)
    assert gained.abs().max() < 0.1 * found.mean()


def test_regret_leaves_the_model_as_it_was(small):
    model, x = wrapped(small((1, 4, 4), moved=0.3)), torch.rand(2, 1, 4, 4)
    before, state = {k: v.clone() for k, v in model.network.state_dict().items()}, torch.get_rng_state()
    regret(model, x, steps=3)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and all(p.requires_grad for p in model.network.parameters())


def test_regret_refuses_other_posteriors_in_words(small):
    model = wrapped(small((1, 4, 4), posterior="full"), posterior="full")
    with pytest.raises(UsageError, match=r"posterior full: take another score"):
        regret(model, torch.rand(2, 1, 4, 4))
