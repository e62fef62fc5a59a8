"""Flows and the VampPrior: bijections with their determinants, densities with their samples, and what a model file holds."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import training
from scipy import stats
from sklearn.datasets import make_moons
from torch.autograd import gradcheck
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from reparam.distributions.base import kl
from reparam.distributions.gaussian import Gaussian
from reparam.errors import UsageError
from reparam.models.build import build_model, build_prior
from reparam.models.posteriors.flow import FlowedGaussian, InverseAutoregressive
from reparam.models.priors.flows import ActNorm, AutoregressiveFlow, SplineFlow
from reparam.models.priors.vamp import EvenMixture
from reparam.models.sampler import Sampler
from reparam.models.space import Space
from reparam.nets.autoregressive import Autoregressions, Autoregressive
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
from reparam.pretrained.config import Config
from reparam.pretrained.files import load_model, save_model

RECIPE = Recipe(encoder="mlp(hidden=(16,))", decoder="mlp(hidden=(16,))", latent="flat(4)", prior="normal",
                likelihood="gaussian(sigma=0.3)")
SHAPE = (1, 4, 4)
PARTS = [{"prior": "autoregressive_flow(2, hidden=16)"}, {"prior": "spline_flow(2, bins=4, hidden=16)"},
         {"prior": "vamp(3)"}, {"posterior": "iaf(2, hidden=16)"}]
every_part = pytest.mark.parametrize("changes", PARTS, ids=lambda c: next(iter(c.values())).partition("(")[0])
LAYERS = {
    "affine": lambda dim: Autoregressive(dim, 12),
    "interleaved": lambda dim: Autoregressive(dim, 12, interleaved=True),
    "context": lambda dim: Autoregressive(dim, 12, context=3),
    "blocks": lambda dim: Autoregressive(dim, 2),
    "spline": lambda dim: Autoregressive(dim, 12, bins=5),
    "coupling": lambda dim: Autoregressive(dim, 12, bins=5, passes=2),
    "standardise": ActNorm,
}
every_layer = pytest.mark.parametrize("layer", LAYERS)


@pytest.fixture
def double(monkeypatch):
    """Parts compute in float32 by calling `.float()`; here that stays in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def moved(module, by=0.3):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn_like(p))
    return module


def context_for(layer, *leading):
    return (torch.randn(*leading, 3, dtype=torch.float64),) if layer == "context" else ()


def grid(half_width, n, dims):
    """Mid-points of a grid on [−w, w]^dims, (n^dims, dims), and the volume of a cell."""
    edges = torch.linspace(-half_width, half_width, n + 1, dtype=torch.float64)
    axis = (edges[1:] + edges[:-1]) / 2
    return torch.cartesian_prod(*[axis] * dims).reshape(-1, dims), (2 * half_width / n) ** dims


@pytest.fixture
def bent(double):
    """A posterior that a flow has bent, in float64, and its distribution: `bent(dims)`."""
    return _bent


def _bent(dim, batch=1, by=0.4, transforms=2):
    q = moved(InverseAutoregressive((5,), (dim,), transforms, hidden=8).double(), by)
    with torch.no_grad():
        for p in q.base.log_var.parameters():
            p.mul_(0.1)
    return q, q(torch.randn(batch, 5, dtype=torch.float64))


# Bijections


@pytest.mark.parametrize("dim", [1, 2, 5])
@every_layer
def test_a_layer_inverts(layer, dim):
    f, c = moved(LAYERS[layer](dim).double(), 0.5), context_for(layer, 4)
    x = 3 * torch.randn(6, 4, dim, dtype=torch.float64)  # the spline's domain ends at 5
    y, _ = f(x, *c)
    assert (y - x).abs().max() > 0.1
    torch.testing.assert_close(f.inverse(y, *c), x)
    torch.testing.assert_close(f(f.inverse(x, *c), *c)[0], x)


@pytest.mark.parametrize("dim", [1, 2, 5])
@every_layer
def test_a_layer_knows_its_determinant(layer, dim):
    f, c = moved(LAYERS[layer](dim).double(), 0.5), context_for(layer)
    for x in 3 * torch.randn(8, dim, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda v: f(v, *c)[0], x)
        torch.testing.assert_close(f(x, *c)[1], jacobian.det().abs().log())


def test_a_stack_of_layers_knows_its_determinant_and_inverts():
    flow = moved(Autoregressions(Autoregressive(4, 8, context=3, interleaved=i > 1) for i in range(4)).double(), 0.4)
    c = torch.randn(3, dtype=torch.float64)
    for x in torch.randn(8, 4, dtype=torch.float64):
        z, log_det = flow(x, c)
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v, c)[0], x)
        torch.testing.assert_close(log_det, jacobian.det().abs().log())
        torch.testing.assert_close(flow.inverse(z, c), x)
        assert (jacobian != 0).all()


@pytest.mark.parametrize(("options", "before"), [
    ({}, lambda i, j: j < i),
    ({"interleaved": True}, lambda i, j: (j % 2, j // 2) < (i % 2, i // 2)),
    ({"bins": 5, "passes": 2}, lambda i, j: j < 4 <= i),
    ({"hidden": 4}, lambda i, j: j // 2 < i // 2),
], ids=["full", "interleaved", "coupling", "blocks"])
def test_a_dimension_is_moved_by_those_before_it(options, before):
    """All of them, also where there are more dimensions than hidden units."""
    f = moved(Autoregressive(7, **{"hidden": 16, **options}).double(), 0.5)
    reach = torch.zeros(7, 7)
    for x in torch.randn(20, 7, dtype=torch.float64):
        reach += torch.autograd.functional.jacobian(lambda v: f(v)[0], x).abs()
    expected = torch.tensor([[i == j or before(i, j) for j in range(7)] for i in range(7)])
    assert torch.equal(reach > 0, expected)


@every_layer
def test_a_layer_starts_as_the_identity(layer):
    f, c = LAYERS[layer](3).double(), context_for(layer)
    x = 4 * torch.randn(10, 3, dtype=torch.float64)
    y, log_det = f(x, *c)
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_det, torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("layer", ["spline", "coupling"])
def test_splines_are_finite_and_invert_in_single_precision(layer):
    """Also at the knots and far outside, with the steepest and flattest bins."""
    f = moved(LAYERS[layer](2), 3.0)
    x = torch.cat([torch.linspace(-6, 6, 5001), torch.tensor([-1e4, -5.0, 5.0, 1e4])])[:, None].expand(-1, 2)
    y, log_det = f(x)
    assert y.isfinite().all() and log_det.isfinite().all()
    assert f.inverse(x).isfinite().all()
    if layer == "spline":
        assert (y[:, 0].diff()[:5000] >= 0).all()


# Priors


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("prior", ["autoregressive_flow", "spline_flow"])
def test_a_flow_prior_starts_as_the_standard_normal(prior, shape):
    p = ROLES["prior"].make(prior, Space(shape))()
    z = 2 * torch.randn(6, *shape)
    torch.testing.assert_close(p.log_prob(z), Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1))
    torch.testing.assert_close(p.mean, torch.zeros(shape))


@pytest.mark.parametrize("prior", [AutoregressiveFlow, SplineFlow])
def test_the_density_of_a_flow_prior_is_that_of_its_noise(prior, double):
    p = moved(prior(Space((2, 1, 2)), hidden=8).double())()
    u = torch.randn(4, dtype=torch.float64)
    z = p.flow.decode(u.reshape(2, 1, 2))
    jacobian = torch.autograd.functional.jacobian(lambda v: p.flow.decode(v.reshape(2, 1, 2)).flatten(), u)
    torch.testing.assert_close(p.log_prob(z), Normal(0.0, 1.0).log_prob(u).sum() - jacobian.det().abs().log())


def fitted(prior, codes, steps, lr=1e-2):
    """Maximum likelihood by Adam; returns the nats per code on the last half."""
    module = ROLES["prior"].make(prior, Space(codes.shape[1:]))
    optimizer = torch.optim.Adam(module.parameters(), lr)
    train, test = codes.chunk(2)
    for i in range(steps):
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        (-module().log_prob(train[torch.randint(len(train), (256,))]).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        return module, -module().log_prob(test).mean().item()


@pytest.mark.parametrize("prior", ["autoregressive_flow(4, hidden=32)", "spline_flow(3, bins=8, hidden=32)"])
def test_a_flow_learns_two_moons(prior):
    """Better by more than half a nat than the best Gaussian, and its samples keep to the moons."""
    points = torch.from_numpy(make_moons(4000, noise=0.06, random_state=0)[0]).float()
    train, test = points.chunk(2)
    gaussian = -torch.distributions.MultivariateNormal(train.mean(0), train.T.cov()).log_prob(test).mean().item()
    module, nats = fitted(prior, points, 250)
    assert nats < gaussian - 0.5
    distance = torch.cdist(module().sample((500,)), points).min(1).values
    assert (distance < 0.2).float().mean() > 0.85


@pytest.mark.parametrize("prior", ["autoregressive_flow(2, hidden=16)", "spline_flow(2, bins=4, hidden=16)"])
@pytest.mark.parametrize(("loc", "scale"), [(2.0, 5.0), (-0.5, 0.05)])
def test_a_flow_finds_codes_of_another_scale(prior, loc, scale):
    codes = loc + scale * torch.randn(4000, 2)
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(scale))
    assert fitted(prior, codes, 300, lr=0.03)[1] < entropy + 0.3


# The posterior


@pytest.mark.parametrize("dims", [1, 2])
def test_the_density_of_a_bent_posterior_integrates_to_one(dims, bent):
    _, q = bent(dims)
    points, cell = grid(12, 10_000 if dims == 1 else 600, dims)
    with torch.no_grad():
        assert q.log_prob(points[:, None]).exp().sum().item() * cell == pytest.approx(1, abs=2e-3)


def test_draws_of_a_bent_posterior_have_the_law_that_log_prob_says(bent):
    """By quadrature in two dimensions: both marginals and their dependence, which no diagonal Gaussian has."""
    _, q = bent(2)
    n, half = 800, 8
    points, cell = grid(half, n, 2)
    with torch.no_grad():
        mass = q.log_prob(points[:, None]).exp().reshape(n, n).numpy() * cell
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    drawn = q.sample((20_000,))[:, 0].numpy()
    ends = np.linspace(-half, half, n + 1)[1:]
    for axis in (0, 1):
        cdf = np.cumsum(mass.sum(1 - axis))
        assert stats.kstest(drawn[:, axis], lambda v, cdf=cdf: np.interp(v, ends, cdf, left=0)).pvalue > 1e-3
    product = (mass.ravel() * points.prod(1).numpy()).sum()
    error = drawn.prod(1).std() / math.sqrt(len(drawn))
    assert abs(drawn.prod(1).mean() - product) < 4 * error
    centred = (mass.ravel() * (points - (points * torch.from_numpy(mass.ravel())[:, None]).sum(0)).prod(1).numpy()).sum()
    assert abs(centred) > 5 * error


@pytest.mark.parametrize("shape", [(1,), (6,), (2, 1, 3)], ids=str)
def test_a_draw_knows_its_density_as_the_inverse_does(shape, double):
    """The value, and its gradient for every parameter."""
    posterior = moved(InverseAutoregressive((5,), shape, 3, hidden=8).double())
    q = posterior(torch.randn(4, 5, dtype=torch.float64))
    z = q.rsample((5,))
    assert z.shape == (5, 4, *shape)
    own, inverted = q.log_prob(z), q.log_prob(z + 0)
    assert own.shape == (5, 4)
    torch.testing.assert_close(own, inverted, atol=1e-4, rtol=1e-4)
    weight = torch.randn_like(own)
    gradients = [torch.autograd.grad((weight * f + z.flatten(2).sum(2) ** 2).sum(), list(posterior.parameters()),
                                     retain_graph=True) for f in (own, inverted)]
    for (name, _), a, b in zip(posterior.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


def test_a_draw_knows_its_density_without_inversion(monkeypatch, bent):
    _, q = bent(3, 2)
    z = q.rsample((2,))
    monkeypatch.setattr(Autoregressions, "inverse", None)
    q.log_prob(z)
    with torch.inference_mode():
        q.log_prob(q.sample((2,)))
    with pytest.raises(TypeError):
        q.log_prob(z)  # no longer the last draw


@pytest.mark.usefixtures("unhooked")
def test_compiled_draws_know_their_density_too(small, images, monkeypatch):
    model = small(SHAPE, posterior="iaf(2, hidden=16)")
    monkeypatch.setattr(Autoregressions, "inverse", None)
    torch._dynamo.reset()
    objective = parse_objective("nll + kl")
    parts = torch.compile(lambda x: objective.parts(model(x)), fullgraph=True, backend="eager")(images(3, SHAPE))
    assert parts.isfinite().all()


def test_a_draw_without_gradients_has_a_density_with_them(bent):
    posterior, q = bent(3, 2)
    z = q.sample((4,))
    assert not z.requires_grad
    gradients = torch.autograd.grad(q.log_prob(z).sum(), posterior.base.loc.parameters(), retain_graph=True)
    u = q.flow.inverse(z, q.context)
    expected = torch.autograd.grad((q.base.log_prob(u) - q.flow(u, q.context)[1]).sum(), posterior.base.loc.parameters())
    for a, b in zip(gradients, expected, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b)


def test_the_divergence_of_a_bent_posterior_is_that_of_quadrature(bent):
    _, q = bent(2)
    p = Gaussian(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    points, cell = grid(16, 800, 2)
    with torch.no_grad():
        log_q = q.log_prob(points[:, None])[:, 0]
        exact = (log_q.exp() * (log_q - p.log_prob(points))).sum().item() * cell
        logs = kl(q, p, q.rsample((20_000, )))[:, 0]
    assert exact > 0.1
    assert abs(logs.mean().item() - exact) < 4 * logs.std().item() / math.sqrt(len(logs))


def test_a_bent_posterior_starts_as_the_gaussian_and_has_the_image_of_its_mean():
    posterior = InverseAutoregressive((5,), (2, 1, 3), 2, hidden=8)
    h = torch.randn(4, 5)
    q, base = posterior(h), posterior.base(h)
    z = torch.randn(2, 4, 2, 1, 3)
    torch.testing.assert_close(q.log_prob(z), base.log_prob(z))
    torch.testing.assert_close(q.mean, base.mean)
    q, base = moved(posterior)(h), posterior.base(h)
    assert (q.mean - base.mean).abs().max() > 0.1
    narrow = FlowedGaussian(Gaussian(q.base.loc, torch.full_like(q.base.loc, -18.0)), q.flow, q.context, q.shape)
    torch.testing.assert_close(narrow.sample((1,))[0], q.mean, atol=1e-2, rtol=1e-2)


def test_a_bent_posterior_comes_closer_to_a_bent_truth():
    """p(z | x) of two latents seen through their product: the ELBO of a flow is above that of the best Gaussian."""
    def loss(q):
        z = q.rsample((256,))
        product = Normal(z.prod(-1), 0.1).log_prob(torch.tensor(1.5))
        return (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(-1) - product).mean()

    reached = {}
    for name, by in [("gaussian", 0.1), ("iaf(4, hidden=32)", 0.1)]:
        posterior, h = moved(ROLES["posterior"].make(name, (1,), (2,)), by), torch.ones(1, 1)
        optimizer = torch.optim.Adam(posterior.parameters(), 1e-2)
        for _step in range(250):
            optimizer.zero_grad()
            loss(posterior(h)).backward()
            optimizer.step()
        with torch.no_grad():
            reached[name] = sum(loss(posterior(h)).item() for _ in range(10)) / 10
    assert reached["iaf(4, hidden=32)"] < reached["gaussian"] - 0.3


# Gradients


@pytest.mark.parametrize("prior", [lambda: AutoregressiveFlow(Space((3,)), 2, 5), lambda: SplineFlow(Space((3,)), 2, 3, 5)],
                         ids=["autoregressive", "spline"])
def test_flow_priors_have_their_gradient(prior, double):
    module = moved(prior().double())
    names = [n for n, _ in module.named_parameters()]

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.prior = module

        def forward(self, z):
            return self.prior().log_prob(z)

    def log_prob(z, *values):
        return torch.func.functional_call(Call(), {f"prior.{n}": v for n, v in zip(names, values, strict=True)}, (z,))

    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(log_prob, (z, *(p.detach().clone().requires_grad_() for p in module.parameters())), fast_mode=True)


def test_bent_posteriors_have_their_gradient(double):
    flow = moved(Autoregressions(Autoregressive(3, 5, context=2) for _ in range(2)).double())

    def both(loc, log_var, context, z):
        q = FlowedGaussian(Gaussian(loc, log_var), flow, context, (3,))
        torch.manual_seed(0)
        drawn = q.rsample((2,))
        return q.log_prob(z), drawn, q.log_prob(drawn)

    shapes = [(2, 3), (2, 3), (2, 2), (2, 2, 3)]
    assert gradcheck(both, [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes])


def test_even_mixtures_have_their_gradient(double):
    shapes = [(4, 2, 1, 3), (4, 2, 1, 3), (5, 2, 2, 1, 3)]
    assert gradcheck(lambda loc, log_var, z: EvenMixture(Gaussian(loc, log_var, 3)).log_prob(z),
                     [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes])


# The VampPrior


def reference(components):
    each = Independent(Normal(components.loc, (0.5 * components.log_var).exp()), components.event_dims)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(components.loc))), each)


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("log_var", [-10.0, 0.0, 4.0])
def test_an_even_mixture_is_that_of_torch(shape, log_var):
    """To the last digits, also where components are narrow and the square's parts cancel."""
    components = Gaussian(3 + torch.randn(6, *shape), log_var + 0.3 * torch.randn(6, *shape), len(shape))
    p, theirs = EvenMixture(components), reference(components)
    z = theirs.sample((5, 2))
    torch.testing.assert_close(p.log_prob(z), theirs.log_prob(z), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(p.mean, theirs.mean)
    assert p.sample((5, 0)).shape == (5, 0, *shape)
    assert p.sample().shape == shape


def test_samples_of_an_even_mixture_have_their_law():
    components = Gaussian(torch.tensor([[-4.0], [0.0], [3.0]]), torch.tensor([[0.0], [-3.0], [1.0]]))
    drawn = EvenMixture(components).sample((20_000,)).squeeze(1).numpy()
    law = stats.norm(components.loc.numpy(), (components.log_var / 2).exp().numpy())
    assert stats.kstest(drawn, lambda v: law.cdf(v).mean(0)).pvalue > 1e-3


def test_vamp_is_the_mixture_of_the_posteriors_of_its_pseudo_images(small):
    model = small(SHAPE, prior="vamp(5)")
    pseudo = model.latent.prior.logits.sigmoid()
    assert pseudo.shape == (5, *SHAPE)
    z = torch.randn(2, 3, 4)
    theirs = reference(model.latent.posterior(model.encoder(pseudo)))
    torch.testing.assert_close(model.latent.prior().log_prob(z), theirs.log_prob(z), rtol=1e-4, atol=1e-4)


def test_pseudo_images_start_faint():
    pseudo = build_model(RECIPE.but(prior="vamp"), (3, 16, 16)).latent.prior.logits.sigmoid()
    assert pseudo.shape == (100, 3, 16, 16)
    assert pseudo.mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0.05 < pseudo.std() < 0.2
    assert not torch.equal(pseudo[0], pseudo[1])


def test_vamp_uses_the_encoder_and_does_not_own_it(small):
    model = small(SHAPE, prior="vamp(3)")
    assert [k for k in model.state_dict() if "prior" in k] == ["latent.prior.logits"]
    assert len(list(model.parameters())) == len(set(model.parameters()))
    assert model.latent.prior.inference == (model.encoder, model.latent.posterior)


def test_a_copied_vamp_uses_the_copied_encoder(small):
    model = small(SHAPE, prior="vamp(3)")
    z, other = torch.randn(2, 4), copy.deepcopy(model)
    before = model.latent.prior().log_prob(z)
    assert torch.equal(other.latent.prior().log_prob(z), before)
    moved(other.encoder)
    assert torch.equal(model.latent.prior().log_prob(z), before)
    assert not torch.equal(other.latent.prior().log_prob(z), before)


@every_part
def test_the_average_of_training_is_a_model_of_its_own(changes, small, images):
    model, x = small(SHAPE, **changes), images(8, SHAPE)
    *_, state = training(model, parse_objective("nll + kl"), iter(lambda: x, None), steps=10)
    assert math.isfinite(state.loss)
    prior = state.ema.latent.prior
    if "vamp" in changes.get("prior", ""):
        assert prior.inference[0] is state.ema.encoder and prior.inference[1] is state.ema.latent.posterior
    used = {id(m) for m in (*getattr(prior, "inference", ()), *state.ema.modules())}
    assert used.isdisjoint(id(m) for m in state.model.modules())


@pytest.mark.parametrize(("posterior", "latent", "message"), [
    ("iaf", "flat(4)", "must be Gaussians; got FlowedGaussian"),
    ("full", "flat(4)", "must be Gaussians; got FullGaussian"),
    ("vq", "spatial(4, 2)", "density over real numbers.*lives in integer codes"),
    ("vmf", "flat(4)", "density over real numbers.*lives in points of a sphere"),
])
def test_vamp_refuses_posteriors_that_it_cannot_mix(posterior, latent, message):
    with pytest.raises(UsageError, match=message):
        build_model(RECIPE.but(prior="vamp(3)", posterior=posterior, latent=latent, encoder="conv(width=4)",
                               decoder="conv(width=4)"), SHAPE)


@pytest.mark.parametrize("latent", ["top_down(4, (1,), 1, 16, 4)", "conditional(4, 3)", "semi_supervised(4, 3)"])
def test_vamp_refuses_latents_whose_posterior_reads_more_than_the_encoder(latent):
    """Shapes may fit, and the mixture would be of other posteriors than the model's."""
    with pytest.raises(UsageError, match="reads the encoder alone"):
        build_model(RECIPE.but(prior="vamp(3)", latent=latent, encoder="resnet(width=16)", decoder="resnet(width=8)"), SHAPE)


def test_vamp_cannot_be_fitted_to_codes():
    with pytest.raises(UsageError, match="learned with the model"):
        build_prior("vamp(3)", Space((4,)), of="codes")


@pytest.mark.parametrize(("role", "part"), [
    ("prior", "vamp(0)"), ("prior", "autoregressive_flow(0)"), ("prior", "autoregressive_flow(2, hidden=0)"),
    ("prior", "spline_flow(65)"), ("prior", "spline_flow(3, bins=1)"), ("prior", "spline_flow(hidden=1)"),
    ("posterior", "iaf(0)"), ("posterior", "iaf(hidden=0)"),
])
def test_senseless_sizes_are_refused(role, part):
    with pytest.raises(UsageError, match="must be"):
        build_model(RECIPE.but(**{role: part}), SHAPE)


# What a model file holds, and what zuko leaves behind


@pytest.mark.parametrize("latent", ["flat(1)", "flat(4)", "spatial(2, 2)"])
@every_part
def test_a_model_comes_back_bit_for_bit(changes, latent, small, images, tmp_path):
    changes = {**changes, "latent": latent, "encoder": "conv(width=4)", "decoder": "conv(width=4)",
               "likelihood": "bernoulli"}
    model = small(SHAPE, **changes)
    save_model(tmp_path, Sampler(model), Config(RECIPE.but(**changes), SHAPE))
    loaded = load_model(tmp_path)[0].model
    assert not any(t.is_meta for t in (*loaded.parameters(), *loaded.buffers()))
    assert all(v.is_floating_point() for v in model.state_dict().values())  # no masks, which follow from sizes
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    x = images(3, SHAPE)
    seen = []
    for m in (model.eval(), loaded):
        torch.manual_seed(1)
        trace = m(x, samples=2)
        z, q, p = trace.layers[0]
        seen.append([trace.log_px, z, q.log_prob(z), q.log_prob(z + 0), p.log_prob(z), m.latent.generate(3), m.encode(x)])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("checked", [True, False])
def test_zuko_is_imported_late_and_leaves_torch_as_it_was(checked):
    script = f"""
import sys, torch
torch.distributions.Distribution.set_default_validate_args({checked})
import reparam
from reparam.models.build import build_model
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES
for role in ROLES.values():
    role.parts
plain = Recipe(encoder="mlp(hidden=(8,))", decoder="mlp(hidden=(8,))", latent="flat(2)")
build_model(plain.but(prior="flow"), (1, 4, 4))
assert "zuko" not in sys.modules
build_model(plain.but(prior="spline_flow", posterior="iaf"), (1, 4, 4))
assert "zuko" in sys.modules
try:
    torch.distributions.Normal(0.0, -1.0)
    refused = False
except ValueError:
    refused = True
assert refused is {checked}
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], check=True, timeout=120)
