"""Posteriors beside the diagonal Gaussian: full covariance, a point, directions, relaxed bits and classes."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import distributions as td
from torch.autograd import gradcheck

from reparam.distributions.base import _CLOSED, kl
from reparam.distributions.gaussian import Gaussian
from reparam.distributions.multivariate import FullGaussian
from reparam.distributions.point import Point
from reparam.distributions.relaxed import RelaxedBernoulli, RelaxedCategorical
from reparam.distributions.sphere import PolarAngle, UniformSphere, VonMisesFisher, log_area
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.models.draw import Draw
from reparam.models.priors import Relaxed, Sphere
from reparam.models.space import Space
from reparam.objectives.objective import parse_objective
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES

F64 = {"dtype": torch.float64}
IMAGE = (3, 6, 5)
MODELS = {
    "full": {"posterior": "full"},
    "deterministic": {"posterior": "deterministic"},
    "vmf": {"posterior": "vmf", "prior": "sphere"},
    "relaxed_bernoulli": {"posterior": "relaxed_bernoulli", "prior": "relaxed"},
    "relaxed_categorical": {"posterior": "relaxed_categorical(2)", "prior": "relaxed"},
}
every_model = pytest.mark.parametrize("name", MODELS)


def directions(*shape, axis=-1):
    return torch.nn.functional.normalize(torch.randn(*shape, **F64), dim=axis)


def lower(*shape):
    """Cholesky factors."""
    raw = torch.randn(*shape, **F64)
    return raw.tril(-1) + torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())


def within_errors(draws, expected, errors=4.0):
    """Whether the mean over the first axis is the expected one, within `errors` standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    return bool(((draws.mean(0) - expected).abs() < errors * error + 1e-12).all())


def bessel(kappa, dim):
    """log Z of exp(κ(cos θ − 1)) sin^{D−2} θ, and E[1 − cos θ], by Bessel functions with 40 digits."""
    with mpmath.workdps(40):
        k, nu = mpmath.mpf(kappa), mpmath.mpf(dim) / 2 - 1
        below, above = mpmath.besseli(nu, k), mpmath.besseli(nu + 1, k)
        log_z = mpmath.log(below) - k - nu * mpmath.log(k / 2) + mpmath.log(mpmath.pi) / 2 + mpmath.loggamma(nu + 0.5)
        return float(log_z), float(1 - above / below)


def mean_length(kappa, dim):
    """A_D(κ) = I_{D/2}(κ) / I_{D/2−1}(κ), the length of the expectation."""
    return special.ive(dim / 2, kappa) / special.ive(dim / 2 - 1, kappa)


def law(name, dims=(6,), batch=(3,)):
    """A posterior of random parameters, and a prior over its space."""
    event = len(dims)
    real = torch.randn(*batch, *dims, **F64)
    zero = torch.zeros(dims, **F64)
    normal = Gaussian(zero, zero, event)
    match name:
        case "full":
            return FullGaussian(real, lower(*batch, math.prod(dims), math.prod(dims)), event), normal
        case "deterministic":
            return Point(real, event), normal
        case "vmf":
            kappa = torch.rand(*batch, *dims[1:], **F64) * 20 + 0.5
            return VonMisesFisher(directions(*batch, *dims, axis=-event), kappa, event), UniformSphere(zero)
        case "relaxed_bernoulli":
            return RelaxedBernoulli(real, 0.7, event), RelaxedBernoulli(zero, 0.5, event)
        case "relaxed_categorical":
            return RelaxedCategorical(real, 0.7, 3, event), RelaxedCategorical(zero, 0.5, 3, event)


# All of them


@pytest.mark.parametrize("dims", [(6,), (6, 1, 2)])
@every_model
def test_shapes_with_and_without_samples(name, dims):
    q, p = law(name, dims)
    assert q.mean.shape == (3, *dims)
    for shape in [(), (1,), (4,), (2, 4)]:
        z = q.rsample(shape)
        assert z.shape == (*shape, 3, *dims)
        assert q.log_prob(z).shape == p.log_prob(z).shape == (*shape, 3)
        assert q.tempered(shape, 0.5).shape == z.shape
        assert p.tempered((*shape, 3), 0.5).shape == z.shape
        torch.testing.assert_close(q.log_prob(z)[..., 1], q.log_prob(z[..., 1:2, *[slice(None)] * len(dims)])[..., 1])
    assert kl(q, p, q.rsample((2,))).shape == (2, 3)


@pytest.mark.parametrize("dims", [(6,), (6, 1, 2)])
@pytest.mark.parametrize("name", ["full", "vmf"])
def test_closed_kl_agrees_with_monte_carlo(name, dims):
    q, p = law(name, dims)
    if name == "full":
        p = Gaussian(torch.randn(dims, **F64), torch.randn(dims, **F64), len(dims))
    z = q.rsample((20_000,))
    assert (type(q), type(p)) in _CLOSED
    assert within_errors(q.log_prob(z) - p.log_prob(z), kl(q, p, z)[0])


@every_model
def test_samples_are_those_of_the_density(name):
    """E_q[p/q] = 1 for any density p over the same space."""
    q, p = law(name, (2,) if name != "relaxed_categorical" else (3,), (1,))
    if name == "deterministic":
        assert torch.equal(q.rsample((2,)), q.loc.expand(2, 1, 2))
        return
    if name == "vmf":
        q, p = VonMisesFisher(q.loc, torch.full((1,), 2.0, **F64)), VonMisesFisher(-q.loc[0], torch.tensor(0.5, **F64))
    if name == "full":  # narrower, so that the ratio has a variance
        p = Gaussian(q.loc[0] + 0.1, q.factor[0].diagonal().square().log() - 2, 1)
    if name.startswith("relaxed"):
        q = type(q)(q.logits, 0.4, *((3,) if name == "relaxed_categorical" else ()))
    z = q.sample((100_000,))
    assert within_errors((p.log_prob(z) - q.log_prob(z)).exp(), 1.0)


@pytest.mark.parametrize("latent", ["flat(6)", "spatial(4, 3)"])
@pytest.mark.parametrize("samples", [1, 5])
@every_model
def test_a_model_trains_and_generates(name, samples, latent, small, images):
    model, x = small(IMAGE, **MODELS[name], latent=latent), images(2, IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x, samples=samples)
        assert all(t.dtype == torch.float32 for t in (trace.layers[0].z, trace.layers[0].q.log_prob(trace.layers[0].z)))
    trace = model(x, samples=samples)
    parts = parse_objective("nll + kl + iw_bound(1)").parts(trace)
    parts.sum().backward()
    assert parts.isfinite().all()
    for parameter, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), parameter
    for code in (model.encode(x), model.encode(x, sample=True), model.latent.generate(2)[0],
                 model.latent.generate(2, Draw(0.0))[0]):
        assert code.shape == (2, *model.latent.shape)
        if name == "vmf":
            torch.testing.assert_close(code.norm(dim=1), torch.ones_like(code[:, 0]))
        if name.startswith("relaxed"):
            assert code.min() >= 0
            assert code.max() <= 1
        if name == "relaxed_categorical":
            choices = code.unflatten(1, (-1, 2))
            torch.testing.assert_close(choices.sum(2), torch.ones_like(choices[:, :, 0]))


@pytest.mark.usefixtures("unhooked")
@every_model
def test_spatial_latents_compile_as_one_graph(name, small, images):
    model, x = small(IMAGE, **MODELS[name], latent="spatial(2, 3)"), images(2, IMAGE)
    objective = parse_objective("nll + kl")
    torch._dynamo.reset()
    torch.manual_seed(1)
    expected = objective.parts(model(x))
    torch.manual_seed(1)
    got = torch.compile(lambda x: objective.parts(model(x)), fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("posterior", "latent", "prior", "message"), [
    ("full", "flat(257)", "normal", "257 dimensions"),
    ("vmf", "flat(1)", "sphere", "at least 2"),
    ("vmf", "flat(4)", "normal", "sphere"),
    ("gaussian", "flat(4)", "sphere", "points of a sphere"),
    ("relaxed_bernoulli", "flat(4)", "normal", "relaxed bits"),
    ("relaxed_bernoulli(temperature=0.0)", "flat(4)", "relaxed", "above 0"),
    ("relaxed_bernoulli", "flat(4)", "relaxed(0.0)", "above 0"),
    ("relaxed_categorical(3)", "flat(4)", "relaxed", "multiple"),
    ("relaxed_categorical(1)", "flat(4)", "relaxed", "classes must be at least 2"),
    ("relaxed_categorical(2, -1.0)", "flat(4)", "relaxed", "above 0"),
])
def test_what_cannot_be_is_refused(posterior, latent, prior, message):
    with pytest.raises(UsageError, match=message):
        build_model(Recipe(encoder="mlp(hidden=(8,))", decoder="mlp(hidden=(8,))", latent=latent, posterior=posterior,
                           prior=prior), (1, 4, 4))


# Full covariance and point


def test_full_gaussian_is_torchs_multivariate_normal():
    loc, factor, x = torch.randn(3, 4, **F64), lower(3, 4, 4), torch.randn(5, 3, 4, **F64)
    q, expected = FullGaussian(loc, factor), td.MultivariateNormal(loc, scale_tril=factor)
    torch.testing.assert_close(q.log_prob(x), expected.log_prob(x))
    torch.testing.assert_close(q.log_var.exp(), expected.variance)
    p = Gaussian(torch.randn(4, **F64), torch.randn(4, **F64))
    normal = td.MultivariateNormal(p.loc, torch.diag_embed(p.log_var.exp()))
    torch.testing.assert_close(kl(q, p, x)[0], td.kl_divergence(expected, normal))


def test_full_gaussian_samples_have_its_covariance():
    q = FullGaussian(torch.randn(2, 2, 1, **F64), lower(2, 2, 2), 2)
    e = (q.rsample((40_000,)) - q.loc).flatten(2)
    assert within_errors(e.unsqueeze(-1) * e.unsqueeze(-2), q.factor @ q.factor.mT)


def test_a_fresh_full_posterior_is_the_diagonal_one(small, images):
    model, x = small(IMAGE, posterior="full", moved=0.0), images(2, IMAGE)
    factor = model(x).layers[0].q.factor
    assert torch.equal(factor, torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1)))


def test_the_full_posterior_keeps_its_scale_bounded():
    posterior = ROLES["posterior"].make("full", (1,), (3,))
    with torch.no_grad():
        posterior.factor.bias.fill_(1e4)
    variance = posterior(torch.zeros(1, 1)).factor.diagonal(dim1=-2, dim2=-1).square()
    torch.testing.assert_close(variance, torch.full((1, 3), math.exp(10)))


def test_the_kl_of_a_point_is_the_priors_surprise(small, images):
    """½|z|² + (D/2) log 2π under N(0, I). (Ghosh et al., 2020)"""
    trace = small(IMAGE, **MODELS["deterministic"])(images(2, IMAGE), samples=2)
    z, q, p = trace.layers[0]
    assert isinstance(q, Point)
    torch.testing.assert_close(kl(q, p, z), 0.5 * z.square().sum(-1) + 2 * math.log(2 * math.pi))


# Directions


@pytest.mark.parametrize("dim", [2, 3, 4, 7, 65, 512])
def test_the_normaliser_is_the_bessel_function(dim):
    kappas = [1e-3, 0.1, 1.0, 5.0, 20.0, 300.0, 1e4]
    log_z, versine = PolarAngle(torch.tensor(kappas, **F64), dim).moments()
    expected = np.array([bessel(k, dim) for k in kappas])
    np.testing.assert_allclose(log_z, expected[:, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(versine, expected[:, 1], rtol=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_density_is_scipys(dim):
    mu, z = directions(dim), directions(5, dim)
    for kappa in (0.5, 30.0):
        expected = stats.vonmises_fisher(mu.numpy(), kappa).logpdf(z.numpy())
        np.testing.assert_allclose(VonMisesFisher(mu, torch.tensor(kappa, **F64)).log_prob(z), expected, atol=1e-7)
    area = 2 * math.pi ** (dim / 2) / special.gamma(dim / 2)
    np.testing.assert_allclose(UniformSphere(0 * mu).log_prob(z), np.full(5, -math.log(area)), rtol=1e-12)
    log_prob = VonMisesFisher(mu.float(), torch.tensor(1e4)).log_prob(mu.float())
    assert log_prob.dtype == torch.float32
    # log p(μ) = κ − log ∫ exp(κ cos)
    assert log_prob.item() == pytest.approx(-bessel(1e4, dim)[0] - log_area(dim - 1), rel=1e-6)


def test_sphere_densities_integrate_to_one():
    mu2, mu3, kappa = directions(2), directions(3), torch.tensor(3.0, **F64)
    angle = torch.arange(400, **F64) * (2 * math.pi / 400)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    t, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    ball = torch.cat([(1 - t**2).sqrt()[:, None, None] * circle, t[:, None, None].expand(-1, 400, 1)], -1)
    for d2, d3 in [(VonMisesFisher(mu2, kappa), VonMisesFisher(mu3, kappa)),
                   (UniformSphere(0 * mu2), UniformSphere(0 * mu3))]:
        assert d2.log_prob(circle).exp().mean().item() * 2 * math.pi == pytest.approx(1, abs=1e-8)
        assert (w * d3.log_prob(ball).exp().mean(1)).sum().item() * 2 * math.pi == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 5, 128])
def test_draws_have_the_right_angle_and_no_favourite_side(dim):
    kappas = torch.tensor([0.2, 4.0, 200.0], **F64)
    q = VonMisesFisher(directions(3, dim), kappas)
    z = q.rsample((20_000,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones_like(z[..., 0]))
    cosine = (z * q.loc).sum(-1)
    a = torch.from_numpy(mean_length(kappas.numpy(), dim))
    assert within_errors(cosine, a)
    assert within_errors(cosine**2, 1 - (dim - 1) / kappas * a)  # E[cos²] = 1 − (D−1) A/κ
    # around the axis: E[w] = 0 and E[w wᵀ] = (I − μμᵀ)/(D − 1)
    w = torch.nn.functional.normalize(z - cosine.unsqueeze(-1) * q.loc, dim=-1)[..., :5]
    assert within_errors(w, 0.0, 4.5)
    head = q.loc[:, :5]
    expected = (torch.eye(len(head[0]), **F64) - head.unsqueeze(-1) * head.unsqueeze(-2)) / (dim - 1)
    assert within_errors(w.unsqueeze(-1) * w.unsqueeze(-2), expected, 4.5)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 1e-3), (2, 20.0), (3, 1.0), (3, 1e4), (10, 14.0), (512, 100.0)])
def test_angles_follow_their_distribution_function(dim, kappa):
    polar = PolarAngle(torch.tensor(kappa, **F64), dim)
    theta = polar.sample((500,)).sort().values.numpy()
    grid = np.linspace(0, np.pi, 200_001)[1:-1]
    log_p = kappa * (np.cos(grid) - 1) + (dim - 2) * np.log(np.sin(grid))
    p = np.exp(log_p - log_p.max())
    cdf = np.cumsum(p) / p.sum()
    assert stats.kstest(theta, lambda t: np.interp(t, grid, cdf)).pvalue > 1e-3


@pytest.mark.parametrize(("dim", "kappa"), [(2, 1e-2), (2, 20.0), (3, 1.0), (3, 1e4), (10, 14.0), (512, 100.0)])
def test_angles_are_differentiable_in_the_concentration(dim, kappa):
    kappas = torch.full((40,), kappa, **F64, requires_grad=True)

    def draw(scale):
        torch.manual_seed(1)
        return PolarAngle(kappas * scale, dim).sample()

    step = 1e-4
    slope, = torch.autograd.grad(draw(1.0).sum(), kappas)
    difference = (draw(1 + step) - draw(1 - step)).detach() / (2 * step * kappa)
    torch.testing.assert_close(slope, difference, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_gradient_of_an_expectation_is_that_of_its_closed_form(dim):
    """E[aᵀz + zᵀDz] = A aᵀμ + (1 − (D−1)A/κ − (A/κ)) μᵀDμ + (A/κ) tr D, in κ by differences, in μ by hand."""
    n, kappa = 60_000, 3.0
    a, d, mu = torch.randn(dim, **F64), torch.randn(dim, **F64), directions(dim)

    def exact(k):
        length = mean_length(k, dim)
        return (length * (a @ mu) + (1 - dim * length / k) * (d * mu**2).sum() + length / k * d.sum()).item()

    loc, kappas = mu.expand(n, -1).clone().requires_grad_(), torch.full((n,), kappa, **F64, requires_grad=True)
    z = VonMisesFisher(loc, kappas).rsample()
    value = z @ a + z**2 @ d
    assert within_errors(value.detach(), exact(kappa))
    for_loc, for_kappa = torch.autograd.grad(value.sum(), (loc, kappas))
    assert within_errors(for_kappa, (exact(kappa + 1e-4) - exact(kappa - 1e-4)) / 2e-4)
    length = mean_length(kappa, dim)
    tangent = torch.eye(dim, **F64) - mu[:, None] * mu
    by_hand = tangent @ (length * a + 2 * (1 - dim * length / kappa) * d * mu)
    assert within_errors(for_loc @ tangent, by_hand)


def test_the_kl_to_the_uniform_sphere_survives_float32():
    for dim, kappa in [(2, 1e-2), (64, 1e-1), (64, 1e4), (512, 1e4)]:
        q = VonMisesFisher(directions(1, dim).float(), torch.tensor([kappa]))
        log_z, versine = bessel(kappa, dim)
        expected = -kappa * versine - log_z + log_area(dim) - log_area(dim - 1)
        got = kl(q, UniformSphere(torch.zeros(dim)), torch.zeros(1, 1, dim))
        assert got.item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_von_mises_fisher_has_its_gradients():
    def both(z, mu, kappa):
        q = VonMisesFisher(mu, kappa.exp(), 3)
        return q.log_prob(z), kl(q, UniformSphere(torch.zeros(3, 2, 1, **F64)), z.unsqueeze(0))

    z, mu, kappa = directions(2, 3, 2, 1, axis=1), directions(2, 3, 2, 1, axis=1), torch.randn(2, 2, 1, **F64)
    assert gradcheck(both, tuple(t.requires_grad_() for t in (z, mu, kappa)))


def test_temperature_narrows_directions():
    q = VonMisesFisher(directions(2, 5), torch.tensor([1.0, 3.0], **F64))
    half = VonMisesFisher(q.loc, 2 * q.concentration)
    torch.manual_seed(1)
    expected = half.sample((3,))
    torch.manual_seed(1)
    torch.testing.assert_close(q.tempered((3,), 0.5), expected)
    torch.testing.assert_close(q.tempered((3,), 0.0), q.loc.expand(3, 2, 5), atol=1e-3, rtol=0)
    p = Sphere(Space((5,), "sphere"))()
    assert within_errors(p.tempered((20_000,), 0.1), torch.zeros(5))


# Relaxed bits and classes


def test_relaxed_bits_are_torchs():
    logits, z = torch.randn(4, **F64), torch.randn(5, 4, **F64) * 3
    expected = td.RelaxedBernoulli(torch.tensor(0.6, **F64), logits=logits).log_prob(z.sigmoid())
    squeeze = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)  # log dσ(z)/dz
    torch.testing.assert_close(RelaxedBernoulli(logits, 0.6).log_prob(z), (expected + squeeze).sum(-1))


@pytest.mark.parametrize("trailing", [(), (2, 1)])
def test_relaxed_classes_are_torchs(trailing):
    """A group of classes lies together along the first axis of the event."""
    logits, y = torch.randn(6, *trailing, **F64), torch.randn(5, 6, *trailing, **F64)
    grouped = logits.reshape(2, 3, *trailing).movedim(1, -1)
    y = y.reshape(5, 2, 3, *trailing).movedim(2, -1).log_softmax(-1)
    expected = td.RelaxedOneHotCategorical(torch.tensor(0.6, **F64), logits=grouped)
    log_prob = expected.log_prob(y.exp()) + y.sum(-1)  # of y, whose exponential is the class
    z = y.movedim(-1, 2).reshape(5, 6, *trailing)
    q = RelaxedCategorical(logits, 0.6, 3, 1 + len(trailing))
    torch.testing.assert_close(q.log_prob(z), log_prob.flatten(1).sum(1))
    torch.testing.assert_close(q.mean.reshape(2, 3, *trailing).movedim(1, -1), expected.probs)


def test_relaxed_densities_integrate_to_one():
    axis = torch.linspace(-30, 30, 601, **F64)
    for temperature in (0.6, 1.5):
        bits = RelaxedBernoulli(torch.tensor([0.8], **F64), temperature)
        assert bits.log_prob(axis[:, None]).exp().sum().item() * 0.1 == pytest.approx(1, abs=1e-6)
        ratios = torch.cartesian_prod(axis, axis)  # of z_k − z_n
        z = torch.cat([ratios, 0 * ratios[:, :1]], 1).log_softmax(-1)
        classes = RelaxedCategorical(torch.randn(3, **F64), temperature, 3)
        assert classes.log_prob(z).exp().sum().item() * 0.01 == pytest.approx(1, abs=1e-5)


def test_the_largest_class_has_the_odds_of_its_logits():
    """P(z_k is the largest) = softmax(l)_k at any temperature. (Maddison et al., 2017, Proposition 1)"""
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5, 0.5, 3.0], **F64)
    z = RelaxedCategorical(logits, 0.3, 3).sample((20_000,)).unflatten(-1, (2, 3))
    largest = torch.nn.functional.one_hot(z.argmax(-1), 3).double()
    assert within_errors(largest, logits.reshape(2, 3).softmax(-1))
    assert within_errors((RelaxedBernoulli(logits, 0.3).sample((20_000,)) > 0).double(), logits.sigmoid())


def test_relaxed_samples_are_distributed_like_torchs():
    logits = torch.tensor([1.0, -0.5], **F64)
    ours = RelaxedBernoulli(logits, 0.8).sample((5000,)).sigmoid()
    theirs = td.RelaxedBernoulli(torch.tensor(0.8, **F64), logits=logits).sample((5000,))
    choice = RelaxedCategorical(logits, 0.8, 2).sample((5000,)).exp()
    other = td.RelaxedOneHotCategorical(torch.tensor(0.8, **F64), logits=logits).sample((5000,))
    for a, b in [(ours[:, 0], theirs[:, 0]), (ours[:, 1], theirs[:, 1]), (choice[:, 0], other[:, 0])]:
        assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.01, 0.67])
def test_relaxed_densities_are_finite_in_float32_where_draws_saturate(temperature):
    logits = torch.tensor([10.0, -10.0, 0.0, 0.0]).expand(5000, -1).clone().requires_grad_()
    for q, p in [(RelaxedBernoulli(logits, temperature), Relaxed(Space((4,), "relaxed"))()),
                 (RelaxedCategorical(logits, temperature, 4), Relaxed(Space((4,), "relaxed", 4))())]:
        z = q.rsample()
        logs = q.log_prob(z) - p.log_prob(z)
        assert logs.isfinite().all()
        slope, = torch.autograd.grad(logs.sum(), logits)
        assert slope.isfinite().all()
        assert logs.mean() > 0


@pytest.mark.parametrize("kind", [RelaxedBernoulli, RelaxedCategorical])
def test_relaxed_laws_have_their_gradients(kind):
    classes = (3,) if kind is RelaxedCategorical else ()

    def draw(logits):
        torch.manual_seed(1)
        q = kind(logits, 0.7, *classes)
        z = q.rsample((2,))
        return z, q.log_prob(z)

    logits, z = (torch.randn(2, 6, **F64, requires_grad=True) for _ in range(2))
    assert gradcheck(draw, (logits,))
    assert gradcheck(lambda logits, z: kind(logits, 0.7, *classes).log_prob(z), (logits, z))


def test_the_relaxed_prior_follows_the_posterior(small):
    assert isinstance(Relaxed(Space((4,), "relaxed"))(), RelaxedBernoulli)
    p = small(IMAGE, posterior="relaxed_categorical(2, temperature=0.9)", prior="relaxed(0.3)").latent.prior()
    assert isinstance(p, RelaxedCategorical)
    assert (p.classes, p.temperature) == (2, 0.3)


@pytest.mark.parametrize("name", ["relaxed_bernoulli", "relaxed_categorical"])
def test_temperature_scales_the_noise_of_relaxed_draws(name):
    q, _ = law(name)
    drawn = []
    for temperature in (1.0, 0.5, 0.0):
        torch.manual_seed(1)
        drawn.append(q.tempered((2,), temperature))
    if name == "relaxed_categorical":  # log-probabilities, up to each choice's constant
        drawn = [t.unflatten(-1, (2, 3)).diff(dim=-1) for t in drawn]
    torch.testing.assert_close(drawn[1], (drawn[0] + drawn[2]) / 2)
    torch.testing.assert_close(drawn[2][0], drawn[2][1])
