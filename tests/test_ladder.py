"""The ladder: its factorisation, its codes, and that with no rung it is the flat model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from reparam.build import build_model
from reparam.errors import UsageError
from reparam.ladder import TopDown
from reparam.latent import OneLayer
from reparam.metrics import Evaluation, measure
from reparam.recipe import Recipe
from reparam.registry import ROLES
from reparam.terms import kl, log_weight, nll
from reparam.vae import VAE

IMAGE = (1, 12, 10)


def ladder(rungs="(1, 2)", *, moved=0.2, **changes):
    recipe = Recipe(encoder="resnet(width=8, patch=2)", decoder="resnet(width=8, patch=1)", likelihood="bernoulli",
                    latent=f"top_down(3, {rungs}, 2, 8, 2)").but(**changes)
    model = build_model(recipe, IMAGE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(moved * torch.randn_like(p))
    return model


class Below(nn.Module):
    """What lies between encoder and top in a ladder of one layer."""

    def __init__(self, encoder, latent):
        super().__init__()
        self.encoder, self.latent = encoder, latent

    def forward(self, x):
        return self.latent._seen(self.encoder(x))[-1]


class Above(nn.Module):
    """What lies between top and decoder in a ladder of one layer."""

    def __init__(self, latent, decoder):
        super().__init__()
        self.latent, self.decoder = latent, decoder

    def forward(self, z):
        return self.decoder(self.latent.read(z[None])[0])


@pytest.mark.parametrize("prior", ["normal", "flow(2, 8)"])
def test_with_one_layer_it_is_the_flat_model(prior):
    deep, x = ladder("(0,)", prior=prior), torch.rand(4, *IMAGE).round()
    top = deep.latent.top
    flat = VAE(Below(deep.encoder, deep.latent), OneLayer(top.posterior, top.prior, (3,)), Above(deep.latent, deep.decoder),
               deep.likelihood)
    traces = []
    for model in (deep, flat):
        torch.manual_seed(3)
        traces.append(model(x, samples=5))
    a, b = traces
    torch.testing.assert_close(a.log_px, b.log_px)
    torch.testing.assert_close(log_weight(a), log_weight(b))
    torch.testing.assert_close(kl.of(a), kl.of(b))
    torch.testing.assert_close(deep.encode(x), flat.encode(x))


def test_the_rate_is_the_sum_over_layers_of_gaussian_divergences():
    model, x = ladder(), torch.rand(3, *IMAGE).round()
    trace = model(x, samples=2)
    assert [tuple(layer.z.shape[2:]) for layer in trace.latents] == [(3,), (2, 3, 3), (2, 6, 5), (2, 6, 5)]
    total = torch.zeros(2, 3)
    for z, q, p in trace.latents:
        each = kl_divergence(Normal(q.loc, (q.log_var / 2).exp()), Normal(p.loc, (p.log_var / 2).exp()))
        total = total + each.expand(z.shape).flatten(2).sum(2)
    torch.testing.assert_close(kl.of(trace), total.mean(0))


def test_fresh_rungs_begin_at_their_prior():
    trace = ladder(moved=0.0)(torch.rand(3, *IMAGE).round())
    for z, q, p in trace.latents[1:]:
        assert torch.equal(q.loc, torch.zeros_like(z))
        assert torch.equal(q.log_var, torch.zeros_like(z))
        assert not p.loc.any() and not p.log_var.any()


def test_lower_layers_know_those_above():
    """q of each rung changes with the draw above it, sample by sample, and p(x | z) with every layer."""
    model, x = ladder(), torch.rand(2, *IMAGE).round()
    trace = model(x, samples=2)
    for layer in trace.latents[1:]:
        assert not torch.allclose(layer.q.loc[0], layer.q.loc[1])
    code = model.encode(x, sample=True)
    before = model.decode(code[None]).mean
    begin = 0
    for size in model.latent.sizes:
        other = code.clone()
        other[:, begin : begin + size] += 1
        assert not torch.allclose(model.decode(other[None]).mean, before)
        begin += size
    assert begin == code.shape[1]


def test_a_code_of_what_was_drawn_is_read_as_the_decoder_read_it():
    model, x = ladder().eval(), torch.rand(3, *IMAGE).round()
    trace = model(x, samples=2)
    code = torch.cat([layer.z.flatten(2) for layer in trace.latents], 2)
    torch.testing.assert_close(model.latent.read(code), trace.features)


def test_the_bounds_hold_where_the_likelihood_is_known():
    """log p(x) by brute force over draws of the prior, for an image of few pixels: ELBO ≤ IWAE_8 ≤ IWAE_64 ≤ log p."""
    recipe = Recipe(encoder="resnet(width=4, patch=1)", decoder="resnet(width=4, patch=1, blocks=0)", likelihood="bernoulli",
                    latent="top_down(1, (1,), 1, 4, 1)")
    model = build_model(recipe, (1, 2, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        x = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(1, 1, 2, 2)
        codes = model.latent.generate(200_000)
        log_p = torch.cat([model.decode(c).log_prob(x) for c in codes.split(20_000, 1)], 1)[0]
        exact = log_p.logsumexp(0) - math.log(log_p.numel())
        relative_error = (log_p - exact).exp().std() / log_p.numel() ** 0.5
        batch = x.expand(4000, -1, -1, -1)
        log_w = log_weight(model(batch, samples=64))
        bounds = [log_w[:k].logsumexp(0) - math.log(k) for k in (1, 8, 64)]
        means = [b.mean() for b in bounds]
        errors = [b.std() / b.numel() ** 0.5 for b in bounds]
    assert means[0] < means[1] < means[2] + 4 * errors[2]
    assert means[2] < exact + 4 * (errors[2] + relative_error)
    assert exact - means[0] > 4 * errors[0]
    # E[w] = p(x), without bias
    weight = (log_w - exact).exp().mean(0)
    assert abs(weight.mean() - 1) < 4 * (weight.std() / weight.numel() ** 0.5 + relative_error)


def test_temperatures_go_from_the_top_down():
    model = ladder().eval()
    top = model.latent.sizes[0]
    torch.manual_seed(2)
    one = model.latent.generate(4, 1.0)
    for temperature, above, below in ((0.5, 0.5, 0.5), ((1.0, 0.5), 1.0, 0.5), ((0.0, 1.0), 0.0, 1.0)):
        torch.manual_seed(2)
        other = model.latent.generate(4, temperature)
        torch.testing.assert_close(other[..., :top], above * one[..., :top])
        torch.testing.assert_close(other[..., top:], below * one[..., top:])
    torch.manual_seed(2)
    each = model.latent.generate(4, (1.0, 1.0, 1.0, 0.0))
    assert not each[..., -60:].any() and each[..., :-60].all()
    with pytest.raises(UsageError, match="4 stochastic layers"):
        model.latent.generate(1, (1.0,) * 5)


def test_the_evaluation_gives_the_rate_of_each_layer():
    model, x = ladder().eval(), torch.rand(30, *IMAGE).round()
    figures = {f.name: f.value for f in measure(Evaluation(model, x), "elbo, active_units")}
    layers = [figures[f"kl of layer {i}"] for i in (1, 2, 3, 4)]
    assert sum(layers) == pytest.approx(figures["kl"], rel=1e-5)
    assert figures["-elbo"] == pytest.approx(figures["nll"] + figures["kl"], rel=1e-5)
    assert figures["information"] == pytest.approx(figures["kl"], rel=0.05)  # other draws of the layers above


@pytest.mark.parametrize(("shape", "rungs", "grids"), [
    ((1, 28, 28), (2,), [(7, 7)]), ((3, 33, 20), (1, 0, 2), [(9, 5), (5, 3), (3, 2)]),
    ((5, 8, 64), (1, 1), [(2, 16), (1, 8)])])
def test_grids_of_any_size(shape, rungs, grids):
    plan = ROLES["latent"].make(f"top_down(4, {rungs}, 1, 8, 4)", shape)
    assert plan.grids == grids
    recipe = Recipe(encoder="resnet(width=8)", decoder="resnet(width=8)", latent=f"top_down(4, {rungs}, 1, 8, 4)")
    model = build_model(recipe, shape)
    assert isinstance(model.latent, TopDown)
    trace = model(torch.rand(2, *shape), samples=2)
    assert nll.of(trace).shape == (2,)
    assert len(trace.latents) == 1 + sum(rungs)


def test_an_encoder_without_a_grid_is_refused():
    with pytest.raises(UsageError, match="on a grid"):
        ladder(encoder="mlp")
    for wrong in ("()", "(-1,)"):
        with pytest.raises(UsageError, match="counts of layers"):
            ladder(wrong)
