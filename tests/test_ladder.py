"""The ladder: its factorisation, its codes, and that with no rung it is the flat model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from reparam.errors import UsageError
from reparam.metrics import measure
from reparam.metrics.evaluation import Evaluation
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.latents import OneLayer, TopDown
from reparam.models.latents.top_down import Bottleneck
from reparam.models.priors import Mixture
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.models.trace import log_weight
from reparam.models.vae import VAE
from reparam.objectives.terms import kl, nll
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES

IMAGE = (1, 12, 10)
PLAIN, NARROW = "", ", blocks=(2, 1), bottleneck=2"
EACH = pytest.mark.parametrize("more", [PLAIN, NARROW], ids=["plain", "bottlenecks"])


def ladder(rungs="(1, 2)", more="", *, moved=0.2, **changes):
    recipe = Recipe(encoder="resnet(width=8, patch=2)", decoder="resnet(width=8, patch=1)", likelihood="bernoulli",
                    latent=f"top_down(3, {rungs}, 2, 8, 2{more})").but(**changes)
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
    torch.testing.assert_close(kl(a), kl(b))
    torch.testing.assert_close(deep.encode(x), flat.encode(x))


def test_the_rate_is_the_sum_over_layers_of_gaussian_divergences():
    model, x = ladder(), torch.rand(3, *IMAGE).round()
    trace = model(x, samples=2)
    assert [tuple(layer.z.shape[2:]) for layer in trace.layers] == [(3,), (2, 3, 3), (2, 6, 5), (2, 6, 5)]
    total = torch.zeros(2, 3)
    for z, q, p in trace.layers:
        each = kl_divergence(Normal(q.loc, (q.log_var / 2).exp()), Normal(p.loc, (p.log_var / 2).exp()))
        total = total + each.expand(z.shape).flatten(2).sum(2)
    torch.testing.assert_close(kl(trace), total.mean(0))


@EACH
def test_fresh_rungs_begin_at_their_prior(more):
    trace = ladder(more=more, moved=0.0)(torch.rand(3, *IMAGE).round())
    for z, q, p in trace.layers[1:]:
        assert torch.equal(q.loc, torch.zeros_like(z))
        assert torch.equal(q.log_var, torch.zeros_like(z))
        assert not p.loc.any() and not p.log_var.any()


@EACH
def test_lower_layers_know_those_above(more):
    """q of each rung changes with the draw above it, sample by sample, and p(x | z) with every layer."""
    model, x = ladder(more=more), torch.rand(2, *IMAGE).round()
    trace = model(x, samples=2)
    for layer in trace.layers[1:]:
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


@EACH
def test_a_code_of_what_was_drawn_is_read_as_the_decoder_read_it(more):
    model, x = ladder(more=more).eval(), torch.rand(3, *IMAGE).round()
    trace = model(x, samples=2)
    code = torch.cat([layer.z.flatten(2) for layer in trace.layers], 2)
    torch.testing.assert_close(model.latent.read(code), trace.decoder_input)


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
    one = model.latent.generate(4)
    for temperature, above, below in ((0.5, 0.5, 0.5), ((1.0, 0.5), 1.0, 0.5), ((0.0, 1.0), 0.0, 1.0)):
        torch.manual_seed(2)
        other = model.latent.generate(4, Draw(temperature))
        torch.testing.assert_close(other[..., :top], above * one[..., :top])
        torch.testing.assert_close(other[..., top:], below * one[..., top:])
    torch.manual_seed(2)
    each = model.latent.generate(4, Draw((1.0, 1.0, 1.0, 0.0)))
    assert not each[..., -60:].any() and each[..., :-60].all()
    with pytest.raises(UsageError, match="4 stochastic layers"):
        model.latent.generate(1, Draw((1.0,) * 5))


def far_prior():
    """A mixture of one component, far from where any code lies."""
    prior = Mixture(Space((3,)), 1)
    with torch.no_grad():
        prior.locs.fill_(50)
    return prior


def test_a_fitted_prior_is_the_tops_and_the_rest_is_drawn_from_the_ladder():
    model = ladder().eval()
    latent, top = model.latent, model.latent.sizes[0]
    torch.manual_seed(4)
    own = latent.generate(500)
    drawn = latent.generate(500, prior=far_prior())
    assert (drawn[..., :top].mean((0, 1)) > 40).all()
    assert abs(drawn[..., top:].mean()) < 0.02 and abs(drawn[..., top:].std() - 1) < 0.02
    torch.manual_seed(4)
    assert torch.equal(latent.generate(500), own)


@EACH
def test_what_a_prior_is_fitted_to_are_draws_of_the_top(more):
    """Their moments are those of the top's posterior for the image, at its very place in the code."""
    model, x = ladder(more=more).eval(), torch.rand(1, *IMAGE).round()
    q = model(x).layers[0].q
    with torch.no_grad():
        draws = model.latent.to_fit(model.observe(x), 4000)[:, 0]
    assert draws.shape == (4000, *model.latent.fit_space.shape) and model.latent.fit_space.kind == "real"
    sigma = (q.log_var[0] / 2).exp()
    assert ((draws.mean(0) - q.loc[0]).abs() < 5 * sigma / 4000**0.5).all()
    assert ((draws.std(0) / sigma - 1).abs() < 0.06).all()


@pytest.mark.parametrize(("prior", "learned"), [("normal", False), ("flow(2, 8)", True)])
def test_a_prior_is_learned_when_that_of_the_top_is(prior, learned):
    assert ladder(prior=prior).latent.prior_is_learned is learned


def scales(rungs, more):
    """Of what the decoder reads and of the bound's gradient, before any training."""
    torch.manual_seed(5)
    recipe = Recipe(encoder="resnet(16, blocks=0, patch=1)", decoder="resnet(16, blocks=0, patch=1)",
                    likelihood="bernoulli", latent=f"top_down(8, {rungs}, 4, 16, 1{more})")
    model, x = build_model(recipe, (1, 8, 8)), torch.rand(64, 1, 8, 8).round()
    trace = model(x)
    (nll(trace) + kl(trace)).mean().backward()
    gradient = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
    return trace.decoder_input.std().item(), gradient.item()


@pytest.mark.parametrize("more", ["", ", bottleneck=4"], ids=["plain", "bottlenecks"])
def test_depth_leaves_the_scale_at_the_start(more):
    """Forty layers, on one grid or over four, begin within 1.5 times the scale and 3 times the gradient of two."""
    size, gradient = scales("(2,)", more)
    deep, steep = scales("(40,)", more)
    assert size / 1.5 < deep < 1.5 * size
    assert gradient / 3 < steep < 3 * gradient
    deep, steep = scales("(8, 8, 12, 12)", more)
    assert math.isfinite(steep) and deep > size / 3


def test_every_part_of_a_deep_ladder_learns():
    """After one step, which moves what starts at zero, no parameter is out of the gradient's reach."""
    model = ladder("(1, 0, 1, 2, 1)", ", blocks=(1, 0, 1, 2, 1), bottleneck=2", moved=0.0)
    optimizer, x = torch.optim.Adam(model.parameters(), 1e-2), torch.rand(8, *IMAGE).round()
    for _ in range(3):
        trace = model(x)
        optimizer.zero_grad()
        (nll(trace) + kl(trace)).mean().backward()
        optimizer.step()
    assert not [name for name, p in model.named_parameters() if not p.grad.isfinite().all() or not p.grad.any()]


@pytest.mark.parametrize(("shape", "grids"), [
    ((1, 16, 16), [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]), ((3, 13, 7), [(13, 7), (7, 4), (4, 2), (2, 1), (1, 1)]),
    ((1, 1, 5), [(1, 5), (1, 3), (1, 2), (1, 1), (1, 1)])])
def test_bottlenecks_go_down_to_one_pixel_at_any_size(shape, grids):
    recipe = Recipe(encoder="resnet(8, blocks=0, patch=1)", decoder="resnet(8, blocks=0, patch=1)",
                    latent="top_down(4, (1, 0, 1, 1, 2), 2, 8, 1, (0, 1, 0, 2, 1), 2)")
    model = build_model(recipe, shape).eval()
    latent, x = model.latent, torch.rand(3, *shape)
    assert latent.grids == grids
    trace = model(x, samples=2)
    assert [layer.z.shape[3:] for layer in trace.layers[1:]] == [grids[4], grids[2], grids[1], grids[0], grids[0]]
    assert [s.shape[2:] for s in latent._seen(model.encoder(x))] == grids
    z = torch.cat([layer.z.flatten(2) for layer in trace.layers], 2)
    torch.testing.assert_close(latent.read(z), trace.decoder_input)
    assert model.decode(latent.generate(3)).mean.shape == (1, 3, *shape)
    for rungs, grid in zip(latent.rungs, reversed(grids), strict=True):  # nothing but padding lies around a pixel or two
        inner = {m.kernel_size for m in rungs.modules() if isinstance(m, nn.Conv2d)}
        assert inner <= ({(1, 1)} if max(grid) < 3 else {(1, 1), (3, 3)})
        assert (3, 3) in inner or max(grid) < 3 or not len(rungs)


def test_the_encoders_own_blocks_are_on_the_grids_that_were_named():
    latent = ladder("(1, 1, 1)", ", blocks=(3, 0, 2), bottleneck=2").latent
    at = [[m for m in part.modules() if isinstance(m, Bottleneck)] for part in (latent.stem, *latent.down)]
    assert [len(blocks) for blocks in at] == [2, 0, 3]  # from fine to coarse


def test_halving_is_the_mean_of_the_squares_and_enlarging_repeats_it():
    latent = ladder("(1, 1)", ", blocks=(0, 0), bottleneck=2").latent
    fine = torch.arange(30.0).view(1, 1, 6, 5)
    coarse = latent.down[0](fine)
    assert torch.equal(coarse[0, 0, 0], torch.tensor([3.0, 5.0, 6.5]))  # of the last column there is but one
    assert torch.equal(latent.up[0](coarse)[0, 0, 1], torch.tensor([3.0, 3.0, 5.0, 5.0, 6.5]))


def test_the_evaluation_gives_the_rate_of_each_layer():
    model, x = ladder().eval(), torch.rand(30, *IMAGE).round()
    figures = {f.name: f.value for f in measure(Evaluation(Sampler(model), x), "elbo, active_units")}
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
    assert nll(trace).shape == (2,)
    assert len(trace.layers) == 1 + sum(rungs)


def test_an_encoder_without_a_grid_is_refused():
    with pytest.raises(UsageError, match="on a grid"):
        ladder(encoder="mlp")
    for wrong in ("()", "(-1,)"):
        with pytest.raises(UsageError, match=r"must be at least|each at least 0|counts the layers"):
            ladder(wrong)
    for wrong, message in ((", blocks=(1,)", "one for each of the 2 grids"), (", blocks=(-1, 1)", "each at least 0"),
                           (", bottleneck=9", "narrower"), (", bottleneck=-1", "at least 0")):
        with pytest.raises(UsageError, match=message):
            ladder(more=wrong)
