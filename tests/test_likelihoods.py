"""Likelihoods of pixels: totals of one, the same numbers as scipy and torch.distributions, samples, extremes, starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import betaln
from torch import distributions as td
from torch.autograd import gradcheck

from reparam.distributions.gaussian import Student
from reparam.distributions.pixels import BetaBinomial, Categorical, ContinuousBernoulli, _log_beta
from reparam.errors import UsageError
from reparam.models.build import build_model
from reparam.models.likelihoods import GaussianLikelihood
from reparam.parts.recipe import Recipe
from reparam.parts.registry import ROLES

F64 = {"dtype": torch.float64}
LEVELS = torch.arange(256.0, **F64) / 255
LOGITS = [-30.0, -4.0, -0.6, -0.5, -0.499, -1e-4, 0.0, 1e-9, 0.3, 0.5, 1.0, 12.0, 30.0]
"""Of the continuous Bernoulli; its series ends at ±0.5."""
SHAPES = [(0.0, 0.0), (-3.0, -4.0), (2.0, -6.3), (1.0, 1.5), (-0.7, 4.0), (0.2, 7.6), (15.0, 7.7), (-15.0, -6.3),
          (30.0, 0.7), (-30.0, 3.0)]
"""Mean logits and log concentrations of the beta-binomial."""
DISCRETE = ["categorical", "beta_binomial", "logistic(2)"]
DENSITIES = ["continuous_bernoulli", "gaussian(sigma='per_pixel')", "laplace(scale='per_pixel')", "gaussian(0.2)",
             "student", "student(df=1, scale=0.2)", "student(df=3, scale='per_pixel')"]
PER_PIXEL = ["gaussian(sigma='per_pixel')", "laplace(scale='per_pixel')", "student(scale='per_pixel')",
             "student(df=1, scale='per_pixel')"]
NEW = ["categorical", "beta_binomial", "continuous_bernoulli", "student", *PER_PIXEL]


def make(text, shape=(1, 1, 1)):
    return ROLES["likelihood"].make(text, shape)


def column(values, dtype=torch.float64):
    return torch.as_tensor(values, dtype=dtype).reshape(-1, 1, 1, 1)


def chi_square(drawn, probabilities):
    """The p-value of levels drawn in [0, 1] against their probabilities; levels that are rarely expected are pooled."""
    levels = drawn.flatten().double() * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    seen = np.bincount(levels.round().long().numpy(), minlength=256)
    expected = probabilities.numpy() * len(levels)
    usual = expected > 5
    pooled = [np.append(f[usual], f[~usual].sum()) for f in (seen, expected)]
    return stats.chisquare(pooled[0] + 1e-9, pooled[1] + 1e-9, sum_check=False).pvalue


@pytest.fixture
def double(monkeypatch):
    """Likelihoods compute in float32 by calling `.float()`; here that stays in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("text", DISCRETE)
def test_discrete_likelihoods_are_probabilities_of_levels(text):
    likelihood = make(text).double()
    assert likelihood.discrete is True
    p = likelihood(2 * torch.randn(likelihood.channels, 1, 1, **F64)).log_prob(LEVELS.reshape(256, 1, 1, 1)).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("text", DENSITIES)
def test_other_likelihoods_are_densities(text):
    likelihood = make(text).double()
    assert likelihood.discrete is False
    px = likelihood(torch.randn(likelihood.channels, 1, 1, **F64))

    def density(x):
        with torch.no_grad():
            return px.log_prob(torch.full((1, 1, 1), x, **F64)).exp().item()

    centre = px.mean.item()
    pieces = [(0, 1)] if text == "continuous_bernoulli" else [(-math.inf, centre), (centre, math.inf)]
    assert sum(integrate.quad(density, *piece)[0] for piece in pieces) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("text", NEW)
def test_pixels_and_channels_are_independent_and_the_batch_is_kept(text):
    """log p of an image is the sum over its values, each with its own parameters; p(x | z) of K samples reads one x."""
    likelihood = make(text, (2, 2, 3))
    params, x = torch.randn(5, 4, likelihood.channels, 2, 3), torch.randint(0, 256, (4, 2, 2, 3)) / 255
    px = likelihood(params)
    assert px.log_prob(x).shape == (5, 4)
    alone, total = make(text), 0.0
    for c in range(2):
        for i, j in np.ndindex(2, 3):
            own = params.unflatten(2, (-1, 2))[:, :, :, c, i:i + 1, j:j + 1]
            total = total + alone(own).log_prob(x[:, c:c + 1, i:i + 1, j:j + 1])
    torch.testing.assert_close(px.log_prob(x), total, rtol=1e-5, atol=1e-4)
    assert px.sample().shape == px.mean.shape == (5, 4, 2, 2, 3)
    drawn = px.sample((7, 3))
    assert drawn.shape == (7, 3, 5, 4, 2, 2, 3)
    assert drawn.dtype == torch.float32
    assert px.log_prob(drawn).shape == (7, 3, 5, 4)
    assert px.sample((1, 0)).shape == (1, 0, 5, 4, 2, 2, 3)


def test_categorical_agrees_with_torch():
    logits, x = 3 * torch.randn(4, 256, 2, 3, 5, **F64), torch.randint(0, 256, (7, 4, 2, 3, 5))
    law = td.Independent(td.Categorical(logits=logits.movedim(-4, -1)), 3)
    d = Categorical(logits)
    torch.testing.assert_close(d.log_prob(x / 255), law.log_prob(x))
    # a value between two levels counts as the nearer one
    for off in (-0.4, 0.4):
        torch.testing.assert_close(d.log_prob((x + off) / 255), law.log_prob(x))
    torch.testing.assert_close(d.mean, (law.base_dist.probs * LEVELS).sum(-1))


def test_categorical_keeps_nothing_but_the_logits():
    """For the backward pass; logits are 256 times an image."""
    sizes = {}

    def pack(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    logits = torch.randn(2, 3, 256, 1, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        Categorical(logits).log_prob(torch.rand(3, 1, 8, 8))
    assert sizes.pop(logits.untyped_storage().data_ptr()) == logits.nbytes
    assert sum(sizes.values()) < 0.05 * logits.nbytes


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_agrees_with_quadrature(logit):
    """∫ e^{lx} dx, and the mean, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t, w = (nodes + 1) / 2, weights / 2
    tilted = np.exp(logit * t) * w
    d = ContinuousBernoulli(torch.full((1, 1, 1), logit, **F64))
    x = torch.tensor([0.0, 0.2, 0.9, 1.0], **F64)
    np.testing.assert_allclose(d.log_prob(x.reshape(-1, 1, 1, 1)), logit * x - np.log(tilted.sum()), rtol=1e-11, atol=1e-12)
    assert d.mean.item() == pytest.approx((t * tilted).sum() / tilted.sum(), rel=1e-11)


def test_continuous_bernoulli_agrees_with_torch():
    logits, x = 4 * torch.randn(3, 2, 5, 5, **F64), torch.rand(6, 3, 2, 5, 5, **F64)
    law = td.Independent(td.ContinuousBernoulli(logits=logits), 3)
    d = ContinuousBernoulli(logits)
    torch.testing.assert_close(d.log_prob(x), law.log_prob(x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(d.mean, law.mean, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-6)])
def test_the_slope_of_a_continuous_bernoulli_is_the_value_less_the_mean(dtype, tolerance):
    """∂ log p / ∂l = x − E[x], as in every exponential family: also at 0 and where the series ends."""
    logits = column([*LOGITS, 200.0, -200.0], dtype).requires_grad_()
    d = ContinuousBernoulli(logits)
    d.log_prob(torch.full_like(logits, 0.3)).sum().backward()
    torch.testing.assert_close(logits.grad, 0.3 - d.mean.detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 1e-7, 0.2, 5.0, 40.0])
def test_continuous_bernoulli_samples_have_their_law(logit):
    d = ContinuousBernoulli(torch.full((1, 1, 1), logit))
    drawn = d.sample((20_000,)).flatten().double().numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    exact = logit or 1e-12
    assert stats.kstest(drawn, lambda x: np.expm1(exact * x) / np.expm1(exact)).pvalue > 1e-3
    assert abs(drawn.mean() - d.mean.item()) < 4 * drawn.std() / math.sqrt(len(drawn))


@pytest.mark.parametrize(("logit", "log_concentration"), SHAPES, ids=str)
def test_beta_binomial_agrees_with_scipy(logit, log_concentration):
    kappa = math.exp(log_concentration)
    a, b = kappa / (1 + math.exp(-logit)), kappa / (1 + math.exp(logit))
    d = BetaBinomial(torch.full((1, 1, 1), logit, **F64), torch.full((1, 1, 1), log_concentration, **F64))
    got = d.log_prob(LEVELS.reshape(256, 1, 1, 1))
    np.testing.assert_allclose(got, stats.betabinom(255, a, b).logpmf(np.arange(256)), rtol=1e-9, atol=1e-9)
    assert got.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert d.mean.item() == pytest.approx((got.exp() * LEVELS).sum().item(), rel=1e-7)
    low = BetaBinomial(d.logits.float(), d.log_concentration.float()).log_prob(LEVELS.float().reshape(256, 1, 1, 1))
    torch.testing.assert_close(low.double(), got, rtol=3e-6, atol=5e-4)


def test_log_beta_is_exact_on_both_sides_of_stirling():
    """The series takes over at 8."""
    a, b = np.meshgrid(*[[1e-8, 0.5, 7.99, 8.01, 9.0, 30.0, 1000.0]] * 2)
    np.testing.assert_allclose(_log_beta(torch.from_numpy(a), torch.from_numpy(b)), betaln(a, b), rtol=0, atol=3e-11)


def test_beta_binomial_between_two_laws():
    """Uniform over the levels at mean ½ and concentration 2; the binomial at a large concentration."""
    levels = LEVELS.reshape(256, 1, 1, 1)
    even = BetaBinomial(torch.zeros(1, 1, 1, **F64), torch.full((1, 1, 1), math.log(2), **F64))
    torch.testing.assert_close(even.log_prob(levels), torch.full((256,), -math.log(256), **F64))
    sharp = BetaBinomial(torch.full((1, 1, 1), 0.8, **F64), torch.full((1, 1, 1), 20.0, **F64))
    binomial = stats.binom(255, 1 / (1 + math.exp(-0.8))).logpmf(np.arange(256))
    np.testing.assert_allclose(sharp.log_prob(levels), binomial, atol=1e-3)


@pytest.mark.parametrize("d", [
    Categorical(torch.randn(256, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * 2),
    Categorical(torch.where(torch.arange(256) % 3 == 1, 0.0, -200.0).reshape(256, 1, 1, 1)),
    *(BetaBinomial(torch.full((1, 1, 1), m), torch.full((1, 1, 1), c))
      for m, c in [(0.0, math.log(2)), (-1.0, 3.0), (0.4, -6.3), (2.0, 7.0), (-6.0, 0.0)]),
], ids=["categorical", "categorical-thirds", "even", "wide", "two spikes", "nearly binomial", "black"])
def test_discrete_samples_have_their_frequencies(d):
    p = d.log_prob((torch.arange(256) / 255).reshape(256, 1, 1, 1)).double().exp()
    drawn = d.sample((30_000,))
    assert chi_square(drawn, p) > 1e-3
    assert (p[(drawn.flatten() * 255).round().long().unique()] > 1e-20).all()
    assert abs(drawn.mean() - d.mean.item()) < 4 * drawn.std() / math.sqrt(len(drawn))


@pytest.mark.parametrize(("u", "level"), [(0.0, 7), (0.5, 7), (1 - 2**-24, 200)])
def test_no_uniform_number_draws_a_level_without_probability(u, level, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda size, **of: torch.full(size, u, **of))
    logits = torch.full((256, 1, 1, 1), -200.0)
    logits[7], logits[200] = 0.0, -1.0
    assert round(Categorical(logits).sample().item() * 255) == level


@pytest.mark.parametrize("df", [1.0, 2.5, 4.0, 30.0, 1e6])
def test_student_agrees_with_scipy_and_torch(df):
    loc, log_scale, x = torch.randn(3, 2, 4, **F64), torch.randn(3, 2, 4, **F64), 5 * torch.randn(5, 3, 2, 4, **F64)
    law = td.Independent(td.StudentT(df, loc, log_scale.exp()), 2)
    d = Student(loc, log_scale, df, 2)
    torch.testing.assert_close(d.log_prob(x), law.log_prob(x), rtol=1e-9, atol=1e-7)
    expected = stats.t(df, loc.numpy(), log_scale.exp().numpy()).logpdf(x.numpy()).sum((-1, -2))
    np.testing.assert_allclose(d.log_prob(x), expected, rtol=1e-9, atol=1e-7)
    drawn = Student(torch.tensor([0.7]), torch.tensor([math.log(1.5)]), df).sample((20_000,)).flatten().numpy()
    assert stats.kstest(drawn, stats.t(df, 0.7, 1.5).cdf).pvalue > 1e-3


def test_student_of_many_degrees_of_freedom_is_the_gaussian():
    loc, log_scale, x = torch.randn(4), torch.randn(4), torch.randn(9, 4)
    expected = td.Normal(loc, log_scale.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(Student(loc, log_scale, 1e6).log_prob(x), expected, rtol=1e-4, atol=1e-3)


def real(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("text", NEW)
def test_log_prob_has_its_gradient_in_the_decoders_output(text):
    likelihood = make(text, (1, 1, 2)).double()
    x = torch.tensor([[0.0, 17.0], [255.0, 128.0]], **F64).reshape(2, 1, 1, 2) / 255

    def log_prob(params):
        return likelihood(params).log_prob(x)

    assert gradcheck(log_prob, real(2, likelihood.channels, 1, 2))


def test_densities_have_their_gradients():
    """In value and parameters, on both sides of every change of formula."""
    x, logits = torch.rand(13, 1, 1, 1, **F64).requires_grad_(), column(LOGITS) + 1e-3
    assert gradcheck(lambda v, a: ContinuousBernoulli(a).log_prob(v), (x, logits.requires_grad_()))
    assert gradcheck(lambda a: ContinuousBernoulli(a).mean, (logits,))
    values, df = real(2, 3), 2.5
    assert gradcheck(lambda v, a, b: Student(a, b, df).log_prob(v), (values, real(3), real(3)))
    # a and b from far below to far above the 8 where Stirling's series takes over
    v = column(LEVELS[[0, 1, 5, 100, 255]])
    m, c = (column(t).requires_grad_() for t in ((-3.0, 0.0, 2.0, 1.0, -4.0), (-2.0, 1.0, 4.0, 6.0, 7.0)))
    assert gradcheck(lambda m, c: BetaBinomial(m, c).log_prob(v), (m, c))


def test_student_samples_are_differentiable_in_the_parameters():
    def draw(a, b):
        torch.manual_seed(1)
        return Student(a, b, 3.0).rsample((3,))

    assert gradcheck(draw, (real(2, 3), real(2, 3)))
    assert not Student(real(2, 3), real(2, 3), 3.0).sample((3,)).requires_grad


@pytest.mark.parametrize("size", [-1e4, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("text", NEW)
def test_log_prob_and_gradient_are_finite_at_the_extremes(text, size):
    """In float32, at levels 0 and 255 and between: all outputs of the decoder alike, or one half against the other."""
    likelihood = make(text, (1, 1, 4))
    x = torch.tensor([0.0, 1 / 255, 0.5, 1.0]).reshape(1, 1, 4)
    signs = torch.ones(2, likelihood.channels, 1, 4)
    signs[1, likelihood.channels // 2:] = -1
    params = (size * signs).requires_grad_()
    px = likelihood(params)
    log_p = px.log_prob(x)
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert params.grad.isfinite().all()
    assert px.mean.isfinite().all()
    drawn = px.sample((50,))
    assert drawn.isfinite().all()
    if likelihood.discrete:
        assert (log_p <= 0).all()


@pytest.mark.parametrize("text", NEW)
def test_low_precision_ends_at_the_decoder(text):
    """bfloat16 outputs are read in float32, and autocast changes no number."""
    likelihood = make(text, (3, 2, 4))
    params, x = (2 * torch.randn(2, 5, likelihood.channels, 2, 4)).bfloat16(), torch.randint(0, 256, (5, 3, 2, 4)) / 255
    expected = likelihood(params.float()).log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        px = likelihood(params)
        got = px.log_prob(x)
    assert got.dtype == px.mean.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("text", PER_PIXEL)
def test_a_scale_for_each_pixel_has_a_floor_where_a_level_holds_all_there_is(text):
    """The density peaks at 255, the inverse of the distance between two levels: its share of a bin is at most 1."""
    likelihood = make(text)
    raw = torch.linspace(-60, 60, 241, requires_grad=True)
    mean = torch.full_like(raw, 0.4)
    px = likelihood(torch.stack([mean, raw], 1)[..., None, None])
    peak = px.log_prob(torch.full((241, 1, 1, 1), 0.4))
    assert (peak <= math.log(255) + 1e-4).all()
    assert peak[0].item() == pytest.approx(math.log(255), abs=1e-4)
    assert (peak.diff() <= 0).all()
    log_scale = px.log_scale.flatten() if "gaussian" not in text else px.log_var.flatten() / 2
    assert log_scale[120].item() == pytest.approx(math.log(0.3), abs=1e-6)
    # near its start the decoder's number is the change of the log scale, one to one
    assert torch.autograd.grad(log_scale[120], raw)[0][120].item() == pytest.approx(1, abs=1e-6)


def test_a_scale_for_each_pixel_is_the_second_half_of_the_channels():
    """log scale = log 0.3 + r tanh(raw / r), where r reaches down to the scale at which the density peaks at 255."""
    params, x = torch.randn(2, 4, 2, 2), torch.rand(2, 2, 2, 2)
    mean, raw = params.chunk(2, 1)
    for text, unit, law in [("gaussian(sigma='per_pixel')", stats.norm, td.Normal),
                            ("laplace(scale='per_pixel')", stats.laplace, td.Laplace),
                            ("student(3, 'per_pixel')", stats.t(3), lambda m, s: td.StudentT(3.0, m, s))]:
        likelihood = make(text, (2, 2, 2))
        assert likelihood.channels == 4
        px = likelihood(params)
        assert torch.equal(px.mean, mean)
        reach = math.log(0.3) - math.log(unit.pdf(0) / 255)
        scale = 0.3 * (reach * torch.tanh(raw / reach)).exp()
        torch.testing.assert_close(px.log_prob(x), law(mean, scale).log_prob(x).sum((1, 2, 3)), rtol=1e-4, atol=1e-4)


def test_a_scale_for_each_pixel_finds_the_noise_of_each_pixel():
    """By maximum likelihood, from noise of 0.02, 0.1 and 0.5, and from a pixel that never varies."""
    noise = torch.tensor([0.02, 0.1, 0.5, 0.0]).reshape(1, 1, 4)
    x = 0.5 + noise * torch.randn(2000, 1, 1, 4)
    likelihood = make("gaussian(sigma='per_pixel')", (1, 1, 4))
    params = torch.zeros(2, 1, 4, requires_grad=True)
    optimizer = torch.optim.Adam([params], 0.03)
    for _step in range(500):
        optimizer.zero_grad()
        loss = -likelihood(params).log_prob(x).mean()
        loss.backward()
        optimizer.step()
    sigma = (likelihood(params).log_var / 2).exp().flatten()
    torch.testing.assert_close(sigma[:3], x.std((0, 1, 2))[:3], rtol=0.02, atol=0)
    assert 0.0015 < sigma[3] < 0.02
    torch.testing.assert_close(params[0].flatten(), x.mean((0, 1, 2)), rtol=0, atol=0.01)


@pytest.mark.parametrize("decoder", ["mlp", "resnet(width=16)", "conv(width=16)"])
@pytest.mark.parametrize(("text", "least", "most"), [
    ("categorical", 7.9, 8.3), ("beta_binomial", 7.8, 8.3), ("continuous_bernoulli", -0.1, 0.1),
    *((text, 0.0, 3.5) for text in ["student", *PER_PIXEL]),
])
def test_a_new_model_starts_from_nothing_extreme(text, least, most, decoder, images):
    """Bits per value of images of all levels: 8 where all levels are alike, 0 for a density of 1."""
    x = images(8, (3, 12, 12))
    model = build_model(Recipe(encoder="mlp(hidden=(16,))", decoder=decoder, latent="flat(8)", likelihood=text), (3, 12, 12))
    with torch.no_grad():
        bits = -model(x).log_px.mean().item() / (x[0].numel() * math.log(2))
    assert least < bits < most


def test_the_best_scale_of_a_student_is_refused():
    with pytest.raises(UsageError, match=r"'per_pixel'; got 'optimal'\. The best scale of a Student's t has no closed form"):
        make("student(scale='optimal')")


def test_an_infinite_scale_is_refused():
    with pytest.raises(UsageError, match=r"sigma must be above 0, .* and finite; got inf"):
        GaussianLikelihood((1, 1, 1), math.inf)


@pytest.mark.parametrize("text", ["student(0.5)", "student(1e7)", "student(4, 'best')", "student(4, 0)",
                                  "laplace('per_image')"])
def test_arguments_out_of_range_are_refused(text):
    with pytest.raises(UsageError):
        make(text)


@pytest.mark.parametrize("text", [*PER_PIXEL, "student", "student(scale=0.2)"])
def test_calibration_leaves_other_scales_alone(text):
    likelihood = make(text)
    before = likelihood.log_scale.clone()
    with torch.no_grad():
        likelihood.calibrate(torch.rand(9, 1, 1, 1), torch.rand(9, 1, 1, 1))
    assert torch.equal(likelihood.log_scale, before)
